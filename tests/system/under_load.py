"""Tests under a steady load: start it, do something to the machine, and read the account."""

from __future__ import annotations

import contextlib
import json
import select
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from tests.system.machine import Machine

RATE = 500
FIRST_ANSWERS_S = 60.0
LAST_ANSWERS_S = 90.0


@dataclass(frozen=True)
class Account:
    """What the load saw, by protocol."""

    latest_s: float
    cpu_s: float
    idle_closes: int
    protocols: dict[str, dict[str, Any]]

    def total(self, what: str) -> int:
        return sum(seen[what] for seen in self.protocols.values())

    def assert_nothing_lost(self) -> None:
        """Every request was answered, and with its own answer."""
        bad = {kind: self.total(kind) for kind in ("lost", "refused", "wrong")}
        assert not any(bad.values()), f"{bad} of {self.total('sent')}: {self}"
        assert self.total("ok") == self.total("sent") > 0

    def assert_kept_its_pace(self) -> None:
        """Else the load was less than it should have been for a while, and more thereafter."""
        assert self.latest_s < 5.0, f"the load itself was {self.latest_s:.1f} s behind: {self}"


class SteadyLoad:
    """A load that runs; `finish` ends it."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process

    def finish(self) -> Account:
        """Send no more, wait for what is under way, and give the account."""
        printed, _ = self._process.communicate(timeout=LAST_ANSWERS_S)
        assert self._process.returncode == 0
        return Account(**json.loads(printed.splitlines()[-1]))

    def wait_until_begun(self) -> None:
        """Return when every protocol has been answered."""
        assert self._process.stdout is not None
        ready, _, _ = select.select([self._process.stdout], [], [], FIRST_ANSWERS_S)
        assert ready, "no protocol, or not every one, was answered"
        assert self._process.stdout.readline() == "begun\n"


@contextlib.contextmanager
def under_load(machine: Machine, rate: int = RATE) -> Iterator[SteadyLoad]:
    """So many requests a second, by HTTP on TCP, HTTP on the Unix socket, and gRPC."""
    command = (
        *(sys.executable, "-m", "tests.system.load"),
        *("--rate", str(rate), "--unix", machine.root / "run/tsd/http.sock"),
    )
    pipe = subprocess.PIPE
    with machine.start_host(*command, stdin=pipe, stdout=pipe) as process:
        try:
            load = SteadyLoad(process)
            load.wait_until_begun()
            yield load
        finally:
            process.kill()
