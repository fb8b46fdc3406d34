"""The running model that is measured: how it is set, how it is put back, what its daemon uses."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any, NamedTuple

from tsctl.bench.search import Setting
from tsctl.client import Client, Request, target
from tsctl.failure import Failure, Json

# A change that was interrupted goes on in the daemon, which makes one at a time.
BUSY, BUSY_S = 409, 0.2
MAX_BUSY_S = 120.0
SERVING = ("idle", "busy")
ENDING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
Handler = Callable[[int, FrameType | None], Any] | int | None


@dataclass(frozen=True)
class Served:
    """How a model is served: what is to be put back."""

    setting: Setting
    least: int
    most: int


class Reading(NamedTuple):
    """Counters of the daemon and of its processes."""

    requests: int
    batches: int
    processor_s: float


class Subject:
    """One version of a model, over the control socket."""

    def __init__(self, client: Client, name: str, version: str | None) -> None:
        self._client = client
        self._words = (name, version) if version else (name,)
        self.name = name
        self.version = version
        self.daemon_pid = 0

    def look(self) -> Json:
        model: Json = self._client.fetch(target("tsd", "models", *self._words))
        return model

    def door(self) -> str:
        """Where local clients ask for predictions; without such a door, the control socket."""
        status = self._client.fetch("/tsd/status")
        self.daemon_pid = int(status["pid"])
        doors = [door["address"] for door in status["doors"] if door["name"] == "http"]
        local = (address for address in doors if address.startswith("/"))
        return next(local, self._client.path)

    def read(self) -> Reading:
        model = self.look()
        # Those that go after a change count no more.
        workers = [worker for worker in model["workers"] if worker["state"] in SERVING]
        pids = (self.daemon_pid, *(int(worker["pid"]) for worker in workers))
        batches = sum(int(worker["batches"]) for worker in workers)
        return Reading(int(model["requests"]), batches, processor_s(pids))

    def served(self) -> Served:
        model = self.look()
        setting = Setting(int(model["wanted_workers"]), int(model["batch_size"]))
        return Served(setting, int(model["min_workers"]), int(model["max_workers"]))

    def set(self, setting: Setting) -> None:
        """Have it served so; returns when all workers are there."""
        self._scale(
            min_worker=setting.workers, max_worker=setting.workers, batch_size=setting.batch_size
        )

    def put_back(self, served: Served) -> None:
        """As it was, whatever change is still under way; without a word to who interrupts."""
        try:
            with on_end(signal.SIG_IGN):
                self._set_when_possible(served.setting)
                if served.least != served.most:
                    self._scale(min_worker=served.least, max_worker=served.most)
        except Failure as failure:
            failure.fix = f"it is not as it was: `{self.command(served.setting)}` puts it back"
            raise

    def _set_when_possible(self, setting: Setting) -> None:
        give_up_at = time.monotonic() + MAX_BUSY_S
        while True:
            try:
                self.set(setting)
            except Failure as failure:
                if failure.answer.get("code") != BUSY or time.monotonic() > give_up_at:
                    raise
                time.sleep(BUSY_S)
            else:
                return

    def command(self, setting: Setting) -> str:
        """What sets it by hand."""
        version = f" --version {self.version}" if self.version else ""
        words = f"tsctl scale {self.name} {setting.workers} --batch-size {setting.batch_size}"
        return words + version

    def _scale(self, **asked: int) -> None:
        path = target("models", *self._words, synchronous=True, **asked)
        with self._client.ask(Request("PUT", path)) as answer:
            answer.read()


@contextmanager
def on_end(handler: Handler) -> Iterator[None]:
    """That is done with whatever asks this process to end."""
    before: dict[int, Handler] = {n: signal.signal(n, handler) for n in ENDING}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def processor_s(pids: tuple[int, ...]) -> float:
    """The processor time that these processes have used; 0 where they are not to be seen."""
    ticks = 0
    for pid in pids:
        # One may be gone, or hidden from this user.
        with suppress(OSError):
            fields = Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()
            ticks += int(fields[11]) + int(fields[12])
    return ticks / os.sysconf("SC_CLK_TCK")
