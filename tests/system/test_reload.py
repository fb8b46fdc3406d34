"""Reloading: what is bad changes nothing, what is good loses nothing, and nothing piles up."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.daemon import UnixConnection
from tests.system.conftest import ASK
from tests.system.machine import Machine
from tests.system.under_load import under_load

RELOADS = 1_000
GROWTH_KIB = 256
SETTING = "/etc/tsd/tsd.toml.d/test-reload.toml"


@pytest.fixture
def configured(machine: Machine) -> Iterator[Machine]:
    """A machine whose settings may be changed by a file."""
    yield machine
    machine.run("rm", "-f", SETTING)
    machine.run("systemctl", "reload", "tsd")


def test_a_bad_configuration_is_refused_with_the_reason(configured: Machine) -> None:
    daemon = configured.show("tsd", "MainPID")
    configured.write(SETTING, 'log.level = "lovely"\n')
    refused = configured.run("systemctl", "reload", "tsd", check=False)
    assert refused.returncode != 0
    assert configured.journal("tsd", TSD_EVENT="reload_failed")[-1]["MESSAGE"].count("lovely")
    assert configured.show("tsd", "MainPID") == daemon
    assert configured.show("tsd", "ActiveState") == "active"
    assert configured.run(*ASK).stdout == "question"


def test_a_good_one_is_applied_without_a_lost_request(configured: Machine) -> None:
    with under_load(configured) as load:
        for level in ("debug", "info") * 5:
            configured.write(SETTING, f'log.level = "{level}"\n')
            configured.run("systemctl", "reload", "tsd")
        account = load.finish()
    account.assert_nothing_lost()


def test_a_thousand_reloads_leave_memory_and_descriptors_flat(machine: Machine) -> None:
    process = Path("/proc", str(machine.main_process("tsd.service")))
    # One connection for all: it counts among the descriptors before and after.
    with contextlib.closing(UnixConnection(machine.root / "run/tsd/control.sock")) as control:
        # The allocator grows at first; what piles up goes on growing.
        reload_times(control, RELOADS)
        descriptors, memory = open_descriptors(process), resident_kib(process)
        reload_times(control, RELOADS)
        assert open_descriptors(process) == descriptors
        assert resident_kib(process) - memory <= GROWTH_KIB


def reload_times(control: UnixConnection, times: int) -> None:
    """As `tsctl reload` asks, without starting a program each time."""
    for _ in range(times):
        control.request("POST", "/tsd/reload")
        answer = control.getresponse()
        printed = answer.read()
        assert answer.status == 200, printed


def open_descriptors(process: Path) -> int:
    return sum(1 for _ in (process / "fd").iterdir())


def resident_kib(process: Path) -> int:
    lines = (process / "status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmRSS"))
