"""A server's processes: started, asked until they answer, counted, ended."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import psutil

from benchmarks.load import pinned
from tsctl.failure import Failure, Status

READY_S = 120.0
STOP_S = 30.0
POLL_S = 0.2
# One worker on a model as small as these is at its fastest with one thread.
ONE_THREAD = {"OMP_NUM_THREADS": "1"}


@dataclass(frozen=True)
class Start:
    """How a server is started, and the signal on which it tidies up and ends."""

    command: tuple[str, ...]
    environment: Mapping[str, str]
    stop_signal: signal.Signals = signal.SIGTERM


class Server:
    """A server that runs."""

    def __init__(
        self, name: str, start: Start, process: subprocess.Popen[bytes], log_file: Path
    ) -> None:
        self._name = name
        self._stop_signal = start.stop_signal
        self._process = process
        self._log_file = log_file

    def wait_until(self, is_ready: Callable[[], bool]) -> None:
        """Ask until it is; Failure when the server ends before, or takes too long."""
        deadline = time.monotonic() + READY_S
        while not is_ready():
            if self._process.poll() is not None or time.monotonic() > deadline:
                raise self._failure()
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(POLL_S)

    def cpu_s(self) -> float:
        """User and system time of the whole tree."""
        times = [process.cpu_times() for process in self.tree()]
        return sum(time.user + time.system for time in times)

    def tree(self) -> list[psutil.Process]:
        leader = psutil.Process(self._process.pid)
        return [leader, *leader.children(recursive=True)]

    def free_workers(self) -> None:
        """Let each process that has torch use every core: that is where models run."""
        everywhere = os.sched_getaffinity(0)
        for process in self.tree():
            if "libtorch_cpu" in Path(f"/proc/{process.pid}/maps").read_text():
                for thread in process.threads():
                    os.sched_setaffinity(thread.id, everywhere)

    def stop(self) -> None:
        """End the leader, then whoever outlives it."""
        others = self._others()
        self._process.send_signal(self._stop_signal)
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(STOP_S)
        for end in (psutil.Process.terminate, psutil.Process.kill):
            for process in others:
                with contextlib.suppress(psutil.NoSuchProcess):
                    end(process)
            psutil.wait_procs(others, STOP_S)
        self._process.kill()
        self._process.wait()

    def _others(self) -> list[psutil.Process]:
        """All that it started; those of its process group also where the leader has gone."""
        found: set[psutil.Process] = set()
        with contextlib.suppress(psutil.NoSuchProcess):
            found.update(psutil.Process(self._process.pid).children(recursive=True))
        for process in psutil.process_iter():
            with contextlib.suppress(ProcessLookupError):
                if os.getpgid(process.pid) == self._process.pid != process.pid:
                    found.add(process)
        return list(found)

    def _failure(self) -> Failure:
        log = self._log_file.read_text(errors="replace").strip()
        return Failure(
            Status.FAILED,
            f"{self._name} did not start",
            log[-1500:] or "it said nothing",
            "see benchmarks/peers/README.md for what it needs, or leave it out with --only",
        )


@contextlib.contextmanager
def running(name: str, start: Start, folder: Path, core: int | None) -> Iterator[Server]:
    """The server, its log in `folder`, until the block ends."""
    log_file = folder / "server.log"
    with log_file.open("wb") as log:
        process = subprocess.Popen(
            pinned(start.command, core),
            cwd=folder,
            env={**os.environ, **ONE_THREAD, **start.environment},
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    server = Server(name, start, process, log_file)
    try:
        yield server
    finally:
        server.stop()
