"""The daemon is killed, or hangs: it comes back with its models, and nothing of it is left over."""

from __future__ import annotations

import contextlib
import json
import os
import re
import select
import signal
import time

import pytest

from tests.support.daemon import UnixConnection
from tests.system.conftest import ASK
from tests.system.machine import Machine
from tests.system.under_load import under_load

# Each test stands for many starts.
pytestmark = pytest.mark.timeout(900)
KILLS = 20
OUTLIVES_S = 2.0
BESIDES_THE_LOAD_S = 2.0
STUCK_S = 15.0


def test_twenty_kills_under_load(machine: Machine) -> None:
    listed, places = machine.run("tsctl", "list", "--json").stdout, shared_places(machine)
    with under_load(machine) as load:
        for _ in range(KILLS):
            kill_once(machine)
        account = load.finish()
    assert account.total("wrong") == 0, account
    assert shared_places(machine) == places
    assert names(machine.run("tsctl", "list", "--json").stdout) == names(listed)


def test_a_stuck_daemon_is_replaced_by_the_watchdog(machine: Machine) -> None:
    stuck, restarts = machine.show("tsd", "MainPID"), int(machine.show("tsd", "NRestarts"))
    began_at = time.monotonic()
    os.kill(machine.main_process("tsd.service"), signal.SIGSTOP)
    # Nobody reads this before the next daemon does.
    ask(machine, "control", "GET", "/tsd/status")
    assert time.monotonic() - began_at <= STUCK_S
    assert machine.run(*ASK).stdout == "question"
    assert machine.show("tsd", "MainPID") != stuck
    assert int(machine.show("tsd", "NRestarts")) == restarts + 1


def kill_once(machine: Machine) -> None:
    """kill -9, and how long until the last process is gone, and until the next answer."""
    processes = {pid: os.pidfd_open(pid) for pid in machine.processes("tsd.service")}
    daemon = machine.main_process("tsd.service")
    began_at = time.monotonic()
    os.kill(daemon, signal.SIGKILL)
    for pid, pidfd in processes.items():
        left_s = max(began_at + OUTLIVES_S - time.monotonic(), 0)
        gone, _, _ = select.select([pidfd], [], [], left_s)
        assert gone, f"process {pid} outlived the daemon by {OUTLIVES_S} s"
        os.close(pidfd)
    assert ask(machine, "http", "POST", "/predictions/load", b"question") == b"question"
    took_s = time.monotonic() - began_at
    assert took_s <= slowest_load_s(machine) + BESIDES_THE_LOAD_S


def ask(machine: Machine, door: str, method: str, path: str, body: bytes | None = None) -> bytes:
    """One answer at a Unix socket, asked by this process: a program's start would be measured."""
    with contextlib.closing(UnixConnection(machine.root / f"run/tsd/{door}.sock")) as connection:
        connection.request(method, path, body)
        answer = connection.getresponse()
        assert answer.status == 200
        return answer.read()


def slowest_load_s(machine: Machine) -> float:
    """The time that the present daemon's workers took to be ready, by its own account."""
    daemon = machine.show("tsd", "MainPID")
    told = machine.journal("tsd", TSD_EVENT="worker_ready", _PID=daemon)
    took_ms = [int(found[1]) for one in told if (found := re.search(r"(\d+) ms", one["MESSAGE"]))]
    return max(took_ms) / 1000


def shared_places(machine: Machine) -> str:
    """All that lies where a killed process might have left something."""
    return machine.run("find", "/dev/shm", "/run/tsd").stdout


def names(listed: str) -> list[tuple[str, str]]:
    """Models and versions of a list."""
    return [(one["name"], one["version"]) for one in json.loads(listed)["models"]]
