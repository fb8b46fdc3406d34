"""The test machine itself: what the other tests stand on."""

from __future__ import annotations

from tests.system import runtime
from tests.system.machine import Machine

IMPORT_TORCH = """
import importlib.metadata, importlib.util, sys
import torch
assert torch.nn.Linear(4, 2)(torch.ones(1, 4)).shape == (1, 2)
print(importlib.util.find_spec("tsd"), importlib.util.find_spec("ts"), sys.prefix)
"""


def test_it_is_another_machine(fresh_machine: Machine, suite: str) -> None:
    release = (fresh_machine.root / "usr/lib/os-release").read_text()
    assert f"VERSION_CODENAME={suite}" in release
    assert fresh_machine.run("hostname").stdout.strip() == "tsd-system"
    assert fresh_machine.run("ps", "-o", "comm=", "1").stdout.strip() == "systemd"
    # Nothing but its own loopback.
    links = fresh_machine.run("ip", "-brief", "link").stdout.splitlines()
    assert [link.split()[0] for link in links] == ["lo"]


def test_its_disk_outlives_a_reboot_and_a_power_cut(fresh_machine: Machine) -> None:
    fresh_machine.write("/var/lib/kept", "kept")
    fresh_machine.reboot()
    assert fresh_machine.run("cat", "/var/lib/kept").stdout == "kept"
    fresh_machine.down(hard=True)
    fresh_machine.up()
    assert fresh_machine.run("cat", "/var/lib/kept").stdout == "kept"


def test_any_user_can_import_torch_there_and_not_this_checkout(fresh_machine: Machine) -> None:
    as_nobody = ("setpriv", "--reuid=nobody", "--regid=nogroup", "--clear-groups", "--")
    python = runtime.ENVIRONMENT / "bin/python"
    said = fresh_machine.run(*as_nobody, python, "-c", IMPORT_TORCH).stdout.split()
    assert said == ["None", "None", str(runtime.ENVIRONMENT)]
