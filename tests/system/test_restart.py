"""Under 500 requests a second, by three protocols, for the whole time: not one is lost."""

from __future__ import annotations

import pytest

from tests.system.conftest import ASK, Packages, install
from tests.system.machine import Machine
from tests.system.under_load import under_load

# Each test stands for many starts.
pytestmark = pytest.mark.timeout(900)
RESTARTS = 20
RESTART_S = 30.0


def test_twenty_restarts(machine: Machine) -> None:
    with under_load(machine) as load:
        for _ in range(RESTARTS):
            machine.run("systemctl", "restart", "tsd", timeout_s=RESTART_S)
            machine.run(*ASK)
        account = load.finish()
    account.assert_nothing_lost()
    account.assert_kept_its_pace()


def test_an_upgrade_and_a_downgrade(machine: Machine, packages: Packages) -> None:
    with under_load(machine) as load:
        for package in (packages.next_tsd, packages.tsd):
            before = machine.show("tsd", "MainPID")
            install(machine, package)
            assert machine.show("tsd", "MainPID") not in ("0", before)
            version = package.name.split("_")[1]
            assert machine.run("tsctl", "--version").stdout.split() == ["tsctl", version]
        account = load.finish()
    account.assert_nothing_lost()
    account.assert_kept_its_pace()
