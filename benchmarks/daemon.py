"""tsd as it is measured: every door open, nothing switched off; and what it says of itself."""

from __future__ import annotations

import contextlib
import os
import select
import socket
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import psutil

from benchmarks.load import pinned
from benchmarks.servers import Counts, cpu_s, stop, url_at
from benchmarks.workloads import MIB, Door, Workload, pack_archive
from tsctl.client import Client, Request, target
from tsctl.failure import Failure, Status

READY_S = 120.0

# Larger bodies than TorchServe allows; one thread a worker, as the yardsticks have.
SETTINGS = f"[http]\nmax_request_bytes = {80 * MIB}\n[serving]\nthreads = 1\n"

FREE_PORTS = tuple(f"--{door}=127.0.0.1:0" for door in ("http", "metrics", "grpc"))


class Tsd:
    """A daemon that is ready."""

    def __init__(self, name: str, folder: Path, process: psutil.Process, client: Client) -> None:
        self.name = name
        self.folder = folder
        self.process = process
        self._client = client
        self._doors: list[dict[str, str]] = client.fetch("/tsd/status")["doors"]

    def address(self, door: Door) -> str:
        """HOST:PORT, or the path of the socket."""
        name = "grpc" if door is Door.GRPC else "http"
        addresses = [one["address"] for one in self._doors if one["name"] == name]
        return next(one for one in addresses if one.startswith("/") is (door is Door.UNIX))

    def url(self, workload: Workload) -> str:
        path = workload.name if workload.door is Door.GRPC else f"predictions/{workload.name}"
        return url_at(workload.door, self.address(workload.door), f"/{path}")

    def register(self, archive: Path, workers: int = 1, name: str | None = None) -> None:
        """Serve it, by its own name or by another; returns when its workers are ready."""
        words = target("models", url=archive, initial_workers=workers, model_name=name)
        self._ask("POST", words)

    def scale(self, name: str, workers: int) -> None:
        """So many workers; returns when they are ready."""
        numbers = {"min_worker": workers, "max_worker": workers}
        self._ask("PUT", target("models", name, synchronous="true", **numbers))

    def serve(self, workload: Workload, folder: Path) -> Path:
        """Serve the workload's model; the file that its body lies in."""
        body_file = folder / f"{workload.name}.body"
        body_file.write_bytes(workload.body)
        self.register(pack_archive(workload, folder), workload.workers)
        if workload.is_worker_free:
            self.place_workers(workload.name, sorted(os.sched_getaffinity(0)))
        return body_file

    def place_workers(self, name: str, allowed: Sequence[int]) -> None:
        """Let its workers run on these cores."""
        for worker in self.workers(name):
            psutil.Process(worker["pid"]).cpu_affinity(list(allowed))

    def workers(self, name: str) -> list[dict[str, Any]]:
        workers: list[dict[str, Any]] = self._model(name)["workers"]
        return workers

    @property
    def fork_server_pid(self) -> int:
        return int(self._client.fetch("/tsd/status")["fork_server"]["pid"])

    def counts(self, workload: Workload) -> Counts:
        """The fork server counts among the workers: it sleeps."""
        model = self._model(workload.name)
        others = self.process.children(recursive=True)
        used = {"daemon": cpu_s([self.process]), "workers": cpu_s(others)}
        return Counts(used, model["requests"], sum(w["batches"] for w in model["workers"]))

    def _model(self, name: str) -> Any:
        return self._client.fetch(target("tsd", "models", name))

    def _ask(self, method: str, asked: str) -> None:
        with self._client.ask(Request(method, asked, timeout_s=READY_S)) as answer:
            answer.read()


def with_access_log(folder: Path) -> str:
    """The settings of a daemon that writes TorchServe's log files, too."""
    return f'{SETTINGS}[log]\nfolder = "{folder / "logs"}"\n'


@contextlib.contextmanager
def tsd(
    folder: Path, core: int | None, name: str = "tsd", settings: str = SETTINGS
) -> Iterator[Tsd]:
    """A daemon that is ready; its sockets, its state and its log lie in `folder`."""
    folder.mkdir(exist_ok=True)
    notices = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    notices.bind(str(folder / "notify"))
    with contextlib.closing(notices), launched(folder, core, FREE_PORTS, settings) as process:
        _wait_until_ready(process, notices, folder / "tsd.log")
        client = Client(str(folder / "control.sock"))
        yield Tsd(name, folder, psutil.Process(process.pid), client)


@contextlib.contextmanager
def launched(
    folder: Path, core: int | None, doors: Sequence[str], settings: str = ""
) -> Iterator[subprocess.Popen[bytes]]:
    """A daemon that has just been started; ended at the end of the block."""
    config, log_path = folder / "tsd.toml", folder / "tsd.log"
    config.write_text(settings)
    command = [
        *(sys.executable, "-m", "tsd", "--config", str(config), *doors),
        *("--runtime-dir", str(folder), "--state-dir", str(folder / "state")),
    ]
    own = {"NOTIFY_SOCKET": str(folder / "notify"), "TSD_CONFIG": ""}
    with log_path.open("wb") as log:
        process = subprocess.Popen(
            pinned(command, core), stdout=log, stderr=log, env=os.environ | own
        )
        try:
            yield process
        finally:
            stop(process)


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
