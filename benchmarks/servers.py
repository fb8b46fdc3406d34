"""The yardsticks: bare servers that have no idea of models, and the model in-process.

Each is started once, on the core of the servers, and asked in turn with tsd (daemon.py)."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

from benchmarks.load import pinned
from benchmarks.workloads import Door, Workload
from tsctl.failure import Failure, Status

STOP_S = 40.0

MODULES = {
    "floor": "benchmarks.floor",
    "recv": "benchmarks.recv_loop",
    "recv-unix": "benchmarks.recv_loop",
    "echo": "benchmarks.grpc_echo",
}
"""The bare servers, by name. `raw` is the model itself."""


@dataclass(frozen=True)
class Counts:
    """What a server has used and done up to now."""

    cpu_s: dict[str, float]
    rows: int = 0
    batches: int = 0


class Yardstick:
    """A bare server of one process, at a port or at the path of a socket."""

    def __init__(self, name: str, process: subprocess.Popen[str], address: str) -> None:
        self.name = name
        self._process = process
        self._address = address

    def url(self, workload: Workload) -> str:
        return url_at(workload.door, self._address, "/")

    def counts(self, _workload: Workload) -> Counts:
        return Counts({"server": cpu_s([psutil.Process(self._process.pid)])})


class Raw:
    """The handler of one workload, called in as many processes as the model has workers."""

    name = "raw"

    def __init__(self, processes: Sequence[subprocess.Popen[str]]) -> None:
        self._processes = processes

    def run(self, rows: int, seconds: int) -> dict[str, float]:
        """Call it with batches of so many rows; the figures of all processes together."""
        for process in self._processes:
            assert process.stdin is not None
            process.stdin.write(f"{rows} {seconds}\n")
            process.stdin.flush()
        return together([json.loads(first_line(one, self.name)) for one in self._processes])


def together(figures: Sequence[dict[str, float]]) -> dict[str, float]:
    """What several processes did at once: requests and CPU time add up, latencies are the worst.

    Each has its own end: their rates are added, over the time of the first."""
    first = figures[0]
    rate = sum(one["requests"] / one["duration_us"] for one in figures)
    worst = {key: max(one[key] for one in figures) for key in ("p50_us", "p99_us", "p999_us")}
    return (
        first
        | worst
        | {
            "requests": rate * first["duration_us"],
            "cpu_s": sum(one["cpu_s"] for one in figures),
        }
    )


def url_at(door: Door, address: str, path: str) -> str:
    """What the load's programs understand; see load.Load."""
    if door is Door.UNIX:
        return f"unix:{address}:{path}"
    return f"http://{address}{path}" if door is Door.TCP else address + path


def cpu_s(processes: Sequence[psutil.Process]) -> float:
    """User and system time that they have used."""
    times = [process.cpu_times() for process in processes]
    return sum(time.user + time.system for time in times)


def main_thread_s(process: psutil.Process) -> float:
    """User and system time of its main thread alone."""
    (main,) = (thread for thread in process.threads() if thread.id == process.pid)
    return float(main.user_time + main.system_time)


@contextlib.contextmanager
def yardstick(name: str, folder: Path, core: int | None) -> Iterator[Yardstick]:
    """A bare server that prints its port when it listens."""
    socket_path = folder / f"{name}.sock"
    words = [str(socket_path)] if name == "recv-unix" else []
    with python(["-m", MODULES[name], *words], core) as process:
        port = first_line(process, name).strip()
        yield Yardstick(name, process, str(socket_path) if words else f"127.0.0.1:{port}")


@contextlib.contextmanager
def raw(workload: Workload, body_file: Path, core: int | None) -> Iterator[Raw]:
    """The workload's handler, loaded; on any core where the model's workers may be on any."""
    words = [str(workload.handler), str(body_file), workload.content_type]
    own = None if workload.is_worker_free else core
    with contextlib.ExitStack() as stack:
        processes = [
            stack.enter_context(python(["-m", "benchmarks.raw", *words], own))
            for _ in range(workload.workers)
        ]
        for process in processes:
            first_line(process, "raw")
        yield Raw(processes)


@contextlib.contextmanager
def python(arguments: list[str], core: int | None) -> Iterator[subprocess.Popen[str]]:
    """One of our programs, with one thread for torch, until the end of the block."""
    process = subprocess.Popen(
        pinned([sys.executable, *arguments], core),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
    )
    with process:
        try:
            yield process
        finally:
            stop(process)


def first_line(process: subprocess.Popen[str], name: str) -> str:
    """The next line that it prints; Failure when it ends instead."""
    assert process.stdout is not None
    line = process.stdout.readline()
    if not line:
        raise Failure(
            Status.FAILED,
            f"the yardstick `{name}` ended",
            f"exit status {process.wait()}",
            "its own words stand above",
        )
    return line


def stop(process: subprocess.Popen[Any]) -> None:
    """Ask it to end; kill it when it does not."""
    process.send_signal(signal.SIGTERM)
    try:
        process.wait(STOP_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
