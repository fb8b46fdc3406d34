"""A machine's whole life with the package: install, serve, reboot, remove, install again."""

from __future__ import annotations

import time
from pathlib import Path

from tests.system import runtime
from tests.system.conftest import ASK, LOAD_ARCHIVE, Packages, install
from tests.system.machine import Machine

FIRST_ANSWER_S = 60.0

# Files of the system itself that any package's installation changes.
OF_THE_SYSTEM = (
    *("/var/lib/dpkg", "/var/lib/apt", "/var/lib/systemd", "/var/log", "/var/cache/apt"),
    *("/var/cache/ldconfig", "/var/cache/debconf", "/etc/group-", "/etc/gshadow-", "/etc/passwd-"),
    *("/etc/shadow-", "/etc/subuid-", "/etc/subgid-", "/etc/.pwd.lock", "/etc/ld.so.cache"),
    *("/root", "/srv", "/opt", "/tmp", "/var/tmp"),
)


def test_install_serve_reboot_purge_and_install_again(
    fresh_machine: Machine, packages: Packages, load_archive: Path
) -> None:
    machine = fresh_machine
    machine.copy_in(load_archive, LOAD_ARCHIVE)
    before = files(machine)

    began_at = time.monotonic()
    serve(machine, packages)
    assert time.monotonic() - began_at <= FIRST_ANSWER_S

    machine.reboot()
    assert machine.run(*ASK).stdout == "question"
    machine.down(hard=True)
    machine.up()
    assert machine.run(*ASK).stdout == "question"

    machine.run("apt-get", "purge", "-qy", "tsd")
    assert files(machine) - before == set()
    assert (machine.root / LOAD_ARCHIVE.lstrip("/")).exists()
    assert machine.run("systemctl", "--failed", "--no-legend").stdout == ""

    serve(machine, packages)


def test_removed_and_installed_again_it_knows_its_models(
    machine: Machine, packages: Packages
) -> None:
    machine.run("apt-get", "remove", "-qy", "tsd")
    refused = machine.run(*ASK, check=False)
    assert refused.returncode == 7, "the sockets are still there"
    install(machine, packages.tsd)
    assert machine.run(*ASK).stdout == "question"


def serve(machine: Machine, packages: Packages) -> None:
    """From nothing to the first answer."""
    install(machine, packages.tsd)
    machine.run("tsctl", "runtime", "add", runtime.ENVIRONMENT)
    machine.run("tsctl", "register", LOAD_ARCHIVE)
    assert machine.run(*ASK).stdout == "question"


def files(machine: Machine) -> set[str]:
    """All files and folders, without what is the system's own to change."""
    pruned = [word for place in OF_THE_SYSTEM for word in ("-path", place, "-prune", "-o")]
    found = machine.run("find", "/", "-xdev", *pruned, "-print").stdout.splitlines()
    also = machine.run("find", "/run/tsd", "/dev/shm", "-mindepth", "0", check=False).stdout
    return {*found, *also.splitlines()}
