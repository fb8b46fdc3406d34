"""Who is asked: the floor, the recv loop, the model in-process, and tsd; and their CPU time.

Each is started once, on the core of the servers, and lives for the whole run."""

from __future__ import annotations

import contextlib
import os
import select
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

from benchmarks.load import pinned
from benchmarks.workloads import Workload
from tsctl.client import Client, Request, target
from tsctl.failure import Failure, Status

READY_S = 60.0
STOP_S = 40.0


@dataclass(frozen=True)
class Counts:
    """What a server has used and done up to now."""

    cpu_s: dict[str, float]
    rows: int = 0
    batches: int = 0


class Yardstick:
    """A bare server of one process that has no idea of models."""

    def __init__(self, name: str, process: subprocess.Popen[str], port: int) -> None:
        self.name = name
        self._process = process
        self._port = port

    def url(self, _workload: Workload) -> str:
        return f"http://127.0.0.1:{self._port}/"

    def counts(self, _workload: Workload) -> Counts:
        return Counts({"server": cpu_s([psutil.Process(self._process.pid)])})


class Tsd:
    """A daemon with the models of the workloads registered."""

    name = "tsd"

    def __init__(self, process: psutil.Process, client: Client) -> None:
        self._process = process
        self._client = client
        doors = client.fetch("/tsd/status")["doors"]
        self._address = next(
            door["address"]
            for door in doors
            if door["name"] == "http" and not door["address"].startswith("/")
        )

    def register(self, workload: Workload, archive: Path) -> None:
        asked = target("models", url=archive, initial_workers=1)
        with self._client.ask(Request("POST", asked, timeout_s=READY_S)) as answer:
            answer.read()
        if workload.is_worker_free:
            for worker in self._workers(workload):
                psutil.Process(worker["pid"]).cpu_affinity(sorted(os.sched_getaffinity(0)))

    def url(self, workload: Workload) -> str:
        return f"http://{self._address}/predictions/{workload.name}"

    def counts(self, workload: Workload) -> Counts:
        """The fork server counts among the workers: it sleeps."""
        model = self._client.fetch(target("tsd", "models", workload.name))
        others = self._process.children(recursive=True)
        used = {"daemon": cpu_s([self._process]), "workers": cpu_s(others)}
        return Counts(used, model["requests"], sum(w["batches"] for w in model["workers"]))

    def _workers(self, workload: Workload) -> list[dict[str, Any]]:
        workers: list[dict[str, Any]]
        workers = self._client.fetch(target("tsd", "models", workload.name))["workers"]
        return workers


class Raw:
    """The handler of one workload in a process of its own, asked over its standard input."""

    name = "raw"

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process

    def run(self, rows: int, seconds: int) -> str:
        """Call it with batches of so many rows; the line of figures that it prints."""
        assert self._process.stdin is not None
        self._process.stdin.write(f"{rows} {seconds}\n")
        self._process.stdin.flush()
        return first_line(self._process, "raw")


def cpu_s(processes: list[psutil.Process]) -> float:
    """User and system time that they have used."""
    times = [process.cpu_times() for process in processes]
    return sum(time.user + time.system for time in times)


@contextlib.contextmanager
def yardstick(name: str, module: str, core: int | None) -> Iterator[Yardstick]:
    """A bare server that prints its port when it listens."""
    with _python(["-m", module], core) as process:
        yield Yardstick(name, process, int(first_line(process, name)))


@contextlib.contextmanager
def raw(workload: Workload, body_file: Path, core: int | None) -> Iterator[Raw]:
    """The workload's handler, loaded."""
    words = [str(workload.handler), str(body_file), workload.content_type]
    with _python(["-m", "benchmarks.raw", *words], core) as process:
        first_line(process, "raw")
        yield Raw(process)


@contextlib.contextmanager
def tsd(folder: Path, core: int | None) -> Iterator[Tsd]:
    """A daemon that is ready; its sockets, its state and its log lie in `folder`."""
    notices = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    notices.bind(str(folder / "notify"))
    command = [
        *(sys.executable, "-m", "tsd", "--http", "127.0.0.1:0"),
        *("--metrics", "none", "--grpc", "none"),
        *("--runtime-dir", str(folder), "--state-dir", str(folder / "state")),
    ]
    own = {
        "NOTIFY_SOCKET": str(folder / "notify"),
        "XDG_CONFIG_HOME": str(folder),
        "TSD_CONFIG": "",
    }
    log_path = folder / "tsd.log"
    with contextlib.closing(notices), log_path.open("wb") as log:
        process = subprocess.Popen(
            pinned(command, core), stdout=log, stderr=log, env=os.environ | own
        )
        try:
            _wait_until_ready(process, notices, log_path)
            yield Tsd(psutil.Process(process.pid), Client(str(folder / "control.sock")))
        finally:
            _stop(process)


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


@contextlib.contextmanager
def _python(arguments: list[str], core: int | None) -> Iterator[subprocess.Popen[str]]:
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
            _stop(process)


def _stop(process: subprocess.Popen[Any]) -> None:
    process.send_signal(signal.SIGTERM)
    try:
        process.wait(STOP_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def _wait_until_ready(
    process: subprocess.Popen[bytes], notices: socket.socket, log_path: Path
) -> None:
    """Return when the daemon says so; Failure when it ends or says nothing."""
    is_ready = False
    while not is_ready:
        pidfd = os.pidfd_open(process.pid)
        try:
            told, _, _ = select.select([notices.fileno(), pidfd], [], [], READY_S)
        finally:
            os.close(pidfd)
        if notices.fileno() not in told:
            log = log_path.read_text(errors="replace").strip()
            raise Failure(
                Status.FAILED, "tsd did not start", log[-1000:] or "it said nothing", "mend that"
            )
        is_ready = b"READY=1" in notices.recv(4096).splitlines()
