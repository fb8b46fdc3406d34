"""A real daemon on loopback: started, waited for by its own word, and ended with all it made."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import select
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

READY_S = 120.0
# Stands where systemd stands: passes the descriptors on as 3, 4 … and says whose they are.
PASSING = """
import fcntl, os, sys
names, count, *rest = sys.argv[1:]
passed = [fcntl.fcntl(int(number), fcntl.F_DUPFD, 100) for number in rest[: int(count)]]
for place, descriptor in enumerate(passed, start=3):
    os.dup2(descriptor, place)
os.environ.update(LISTEN_PID=str(os.getpid()), LISTEN_FDS=count, LISTEN_FDNAMES=names)
os.execv(sys.executable, [sys.executable, *rest[int(count):]])
"""
STOP_S = 90.0


@dataclass(frozen=True)
class Answer:
    """Status, headers (lower-case names) and body of one response."""

    status: int
    headers: dict[str, str]
    body: bytes

    def json(self) -> Any:
        return json.loads(self.body)


@dataclass
class RunningDaemon:
    """One `tsd` process; its sockets lie in `runtime_dir`."""

    process: subprocess.Popen[bytes]
    runtime_dir: Path
    state_dir: Path
    log_path: Path
    notices: socket.socket
    told: list[str] = field(default_factory=list)

    @property
    def pid(self) -> int:
        return self.process.pid

    @property
    def control(self) -> Path:
        return self.runtime_dir / "control.sock"

    @property
    def log(self) -> str:
        return self.log_path.read_text(errors="replace")

    def port(self, door: str = "http") -> int:
        """The TCP port of a door."""
        doors = self.call("GET", "/tsd/status").json()["doors"]
        addresses = [d["address"] for d in doors if d["name"] == door]
        return next(int(a.rpartition(":")[2]) for a in addresses if not a.startswith("/"))

    def call(
        self,
        method: str,
        path: str,
        body: bytes | None = None,
        headers: Mapping[str, str] | None = None,
        door: Path | None = None,
    ) -> Answer:
        """One request over a Unix socket: the control socket unless told otherwise."""
        connection = UnixConnection(door or self.control)
        try:
            connection.request(method, path, body, dict(headers or {}))
            response = connection.getresponse()
            names = {name.lower(): value for name, value in response.getheaders()}
            return Answer(response.status, names, response.read())
        finally:
            connection.close()

    def register(self, archive: Path, **options: object) -> Answer:
        """POST /models; a failure raises with the daemon's words."""
        query = "&".join(f"{key}={value}" for key, value in options.items())
        answer = self.call("POST", f"/models?url={archive}&{query}")
        assert answer.status == 200, answer.body.decode()
        return answer

    def model(self, name: str) -> Any:
        """Everything the daemon says about a model."""
        return self.call("GET", f"/tsd/models/{name}").json()

    def worker_pids(self, name: str) -> list[int]:
        """The processes of a model's workers that take batches."""
        workers = self.model(name)["workers"]
        return [w["pid"] for w in workers if w["state"] in ("idle", "busy")]

    def wait_until_told(self, word: str, timeout_s: float = READY_S) -> None:
        """Return when the daemon has told its service manager `word`."""
        while not any(word in line for line in self.told):
            pidfd, poll = os.pidfd_open(self.pid), select.poll()
            poll.register(self.notices, select.POLLIN)
            poll.register(pidfd, select.POLLIN)
            try:
                ready = [number for number, _ in poll.poll(1000 * timeout_s)]
            finally:
                os.close(pidfd)
            assert self.notices.fileno() in ready, f"no {word} within {timeout_s} s:\n{self.log}"
            self.told += self.notices.recv(4096).decode().splitlines()

    def stop(self, number: int = signal.SIGTERM) -> int:
        """Ask it to end; its exit status."""
        if self.process.poll() is None:
            self.process.send_signal(number)
        return self.process.wait(STOP_S)


class UnixConnection(http.client.HTTPConnection):
    """The standard library's client over a Unix socket."""

    def __init__(self, path: Path, timeout_s: float = 60.0) -> None:
        super().__init__("localhost", timeout=timeout_s)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(str(self._path))


@contextlib.contextmanager
def launched(
    folder: Path,
    *options: str,
    environment: Mapping[str, str] | None = None,
    runtime_dir: Path | None = None,
    stderr: int | None = None,
    inherited: Sequence[tuple[str, socket.socket]] = (),
    python: str | Path = sys.executable,
) -> Iterator[RunningDaemon]:
    """A daemon that is starting, with its state in `folder` and free ports.

    `inherited`: doors and the listening sockets that it finds there. Ended, whatever happens; its
    workers die with it."""
    own_dir = Path(tempfile.mkdtemp(prefix="tsd-test-"))
    log_path = folder / "tsd.log"
    with contextlib.ExitStack() as stack:
        stack.callback(shutil.rmtree, own_dir)
        notices = stack.enter_context(socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM))
        notices.bind(str(own_dir / "notify"))
        log = stack.enter_context(log_path.open("ab"))
        own = {"NOTIFY_SOCKET": str(own_dir / "notify"), "XDG_CONFIG_HOME": str(folder / "config")}
        where = runtime_dir or own_dir
        process = subprocess.Popen(
            [
                *(python, *passing(inherited), "-m", "tsd"),
                *("--runtime-dir", str(where), "--state-dir", str(folder / "state")),
                *("--http", "127.0.0.1:0", "--metrics", "none", "--grpc", "none", *options),
            ],
            stdout=log,
            stderr=log if stderr is None else stderr,
            pass_fds=[sock.fileno() for _, sock in inherited],
            env=os.environ | own | dict(environment or {}),
        )
        daemon = RunningDaemon(process, where, folder / "state", log_path, notices)
        stack.callback(end, daemon)
        yield daemon


@contextlib.contextmanager
def running(
    folder: Path,
    *options: str,
    environment: Mapping[str, str] | None = None,
    runtime_dir: Path | None = None,
    stderr: int | None = None,
    inherited: Sequence[tuple[str, socket.socket]] = (),
    python: str | Path = sys.executable,
) -> Iterator[RunningDaemon]:
    """A daemon that is ready."""
    with launched(
        folder,
        *options,
        environment=environment,
        runtime_dir=runtime_dir,
        stderr=stderr,
        inherited=inherited,
        python=python,
    ) as daemon:
        daemon.wait_until_told("READY=1")
        yield daemon


def passing(inherited: Sequence[tuple[str, socket.socket]]) -> list[str]:
    """What the interpreter is told in front of a program that inherits sockets."""
    if not inherited:
        return []
    names = ":".join(name for name, _ in inherited)
    numbers = [str(sock.fileno()) for _, sock in inherited]
    return ["-S", "-E", "-c", PASSING, names, str(len(numbers)), *numbers]


def wait_for(holds: Callable[[], bool], timeout_s: float = READY_S) -> None:
    """Ask the daemon again until it says so: each question is a round trip, no sleep is needed."""
    give_up_at = time.monotonic() + timeout_s
    while not holds():
        assert time.monotonic() < give_up_at, f"still not so after {timeout_s} s"


def end(daemon: RunningDaemon) -> None:
    """Stop it; kill it when it does not stop."""
    try:
        daemon.stop()
    except subprocess.TimeoutExpired:
        daemon.process.kill()
        daemon.process.wait()
