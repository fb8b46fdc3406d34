"""Daemons that follow each other on sockets that the test holds, as systemd does."""

from __future__ import annotations

import asyncio
import contextlib
import http.client
import socket
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
import psutil
import pytest

from tests.support.archives import make_archive
from tests.support.daemon import RunningDaemon, UnixConnection, launched, running, wait_for
from tests.support.grpc_client import INFERENCE
from tsd.grpc.protos.inference_pb2 import InputsInOrder, PredictionResponse
from tsd.http.listener import bind_tcp, bind_unix

RESTARTS = 3
REQUESTS_PER_S = 60
ANSWER_S = 100.0
ECHO_20_MS = """
    import time
    def handle(data, context):
        if data is None:
            return None
        time.sleep(0.02)
        return [row.get("data") or row.get("body") for row in data]
"""
BATCHES = "minWorkers: 2\nmaxWorkers: 2\nbatchSize: 16\n"


@dataclass(frozen=True)
class Held:
    """The listening sockets of all doors."""

    folder: Path
    doors: tuple[tuple[str, socket.socket], ...]

    def running(self, state: Path, *options: str) -> AbstractContextManager[RunningDaemon]:
        """A daemon that has them, and is ready."""
        return running(state, *options, inherited=self.doors, runtime_dir=self.folder)

    def launched(self, state: Path, *options: str) -> AbstractContextManager[RunningDaemon]:
        """One that is starting."""
        return launched(state, *options, inherited=self.doors, runtime_dir=self.folder)

    def port(self, door: str) -> int:
        """The TCP port of a door."""
        found = (sock for name, sock in self.doors if name == door)
        return int(next(s for s in found if s.family == socket.AF_INET).getsockname()[1])


@pytest.fixture
def held() -> Iterator[Held]:
    with contextlib.ExitStack() as stack:
        # A socket's path has room for 107 bytes, and pytest's folders are long.
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="tsd-held-")))
        tcp = [(name, bind_tcp("127.0.0.1", 0, 4096)) for name in ("http", "grpc", "metrics")]
        unix = [
            (name, bind_unix(folder / f"{name}.sock", 0o600, 4096)) for name in ("http", "control")
        ]
        for _, sock in (*tcp, *unix):
            stack.enter_context(sock)
        yield Held(folder, (*tcp, *unix))


Way = Callable[[bytes], Awaitable[bytes]]


class Load:
    """Requests at a constant rate, each with a body of its own, by each way in."""

    def __init__(self, held: Held) -> None:
        self.verdict: Counter[str] = Counter()
        self._held = held
        self._is_over = threading.Event()
        self._changed = threading.Condition()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._run()))

    def __enter__(self) -> Load:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._is_over.set()
        self._thread.join()

    def wait_for_answers(self, count: int) -> None:
        """Return when so many more have come, whatever they are."""
        with self._changed:
            enough = self.verdict.total() + count
            assert self._changed.wait_for(lambda: self.verdict.total() >= enough, 120)

    async def _run(self) -> None:
        address = f"127.0.0.1:{self._held.port('grpc')}"
        port, path = self._held.port("http"), str(self._held.folder / "http.sock")
        async with grpc.aio.insecure_channel(address) as channel:
            predict: Any = channel.unary_unary(f"/{INFERENCE}/Predictions")

            async def by_grpc(body: bytes) -> bytes:
                asked = InputsInOrder(
                    model_name="echo", input=[InputsInOrder.Input(name="data", value=body)]
                )
                answer = await predict(asked.SerializeToString(), timeout=60)
                return bytes(PredictionResponse.FromString(answer).prediction)

            await asyncio.gather(
                self._ask(lambda body: post(asyncio.open_connection("127.0.0.1", port), body)),
                self._ask(lambda body: post(asyncio.open_unix_connection(path), body)),
                self._ask(by_grpc),
            )

    async def _ask(self, way: Way) -> None:
        begun_at, number, asking = time.monotonic(), 0, set[asyncio.Task[None]]()
        while not self._is_over.is_set():
            number += 1
            asking.add(asyncio.create_task(self._ask_one(way, b"request %d" % number)))
            await asyncio.sleep(begun_at + number / REQUESTS_PER_S - time.monotonic())
        await asyncio.gather(*asking)

    async def _ask_one(self, way: Way, body: bytes) -> None:
        try:
            async with asyncio.timeout(ANSWER_S):
                answer = await way(body)
            outcome = "right" if answer == body else f"wrong: {answer!r:.300}"
        except (OSError, EOFError, grpc.RpcError) as error:
            outcome = f"lost: {error!r:.300}"
        with self._changed:
            self.verdict[outcome] += 1
            self._changed.notify_all()


async def post(
    connecting: Awaitable[tuple[asyncio.StreamReader, asyncio.StreamWriter]], body: bytes
) -> bytes:
    """One prediction on a connection of its own; what else comes than its answer, as it came."""
    reader, writer = await connecting
    head = b"POST /predictions/echo HTTP/1.1\r\nHost: a\r\nConnection: close\r\n"
    writer.write(head + b"Content-Length: %d\r\n\r\n%b" % (len(body), body))
    answer = await reader.read()
    writer.close()
    head, _, rest = answer.partition(b"\r\n\r\n")
    return rest if head.startswith(b"HTTP/1.1 200 ") else answer


def ask(port: int, body: bytes) -> bytes:
    """One prediction."""
    with contextlib.closing(http.client.HTTPConnection("127.0.0.1", port, timeout=60)) as client:
        client.request("POST", "/predictions/echo", body)
        answer: bytes = client.getresponse().read()
        return answer


def test_f31_no_request_is_lost_or_refused_over_restarts(tmp_path: Path, held: Held) -> None:
    with contextlib.ExitStack() as stack:
        load = Load(held)
        for number in range(RESTARTS + 1):
            with held.running(tmp_path) as daemon:
                if number == 0:
                    daemon.register(make_archive(tmp_path, "echo", ECHO_20_MS, BATCHES))
                    stack.enter_context(load)
                load.wait_for_answers(100)
                if number == RESTARTS:
                    stack.close()
                assert daemon.stop() == 0
        assert "drained n=" in daemon.log
    assert set(load.verdict) == {"right"}, load.verdict


def test_requests_beyond_the_queue_wait_for_the_models_of_the_last_run(
    tmp_path: Path, held: Held
) -> None:
    config = BATCHES + "jobQueueSize: 1\n"
    with held.running(tmp_path) as daemon:
        daemon.register(make_archive(tmp_path, "echo", ECHO_20_MS, config))
        daemon.stop()
    with held.launched(tmp_path) as daemon, Load(held) as load:
        daemon.wait_until_told("READY=1")
        load.wait_for_answers(100)
    assert set(load.verdict) == {"right"}, load.verdict


def test_the_daemon_accepts_before_its_runtime_is_loaded(tmp_path: Path, held: Held) -> None:
    with held.running(tmp_path) as daemon:
        wait_for(lambda: daemon.call("GET", "/ping").status > 0 and "runtime_ready" in daemon.log)
    assert daemon.log.index("code=accepting") < daemon.log.index("code=runtime_ready")


def test_a_daemon_that_nobody_asks_leaves_and_the_next_one_answers(
    tmp_path: Path, held: Held
) -> None:
    port, metrics = held.port("http"), held.port("metrics")
    with held.running(tmp_path) as daemon:
        daemon.register(make_archive(tmp_path), initial_workers=1)
        daemon.stop()
    with held.running(tmp_path, "--exit-on-idle", "1s") as daemon:
        # An idle client keeps nobody awake.
        idle = http.client.HTTPConnection("127.0.0.1", metrics, timeout=60)
        idle.request("GET", "/metrics")
        assert idle.getresponse().read()
        assert daemon.process.wait(60) == 79
        idle.close()
        assert "code=idle" in daemon.log
    asked = http.client.HTTPConnection("127.0.0.1", port, timeout=120)
    asked.request("POST", "/predictions/echo", b"back")
    with held.running(tmp_path, "--exit-on-idle", "1h"):
        assert asked.getresponse().read() == b"back"
        asked.close()


def test_requests_that_run_keep_the_daemon(tmp_path: Path, held: Held) -> None:
    slow = """
        import time
        def handle(data, context):
            if data is None:
                return None
            time.sleep(3)
            return ["done"]
    """
    with held.running(tmp_path) as daemon:
        daemon.register(make_archive(tmp_path, "echo", slow), initial_workers=1)
        daemon.stop()
    with held.running(tmp_path, "--exit-on-idle", "1s") as daemon:
        assert ask(held.port("http"), b"") == b"done"
        assert daemon.process.wait(60) == 79


@pytest.mark.parametrize(
    ("options", "missing"),
    [
        ((), ("http.sock", "http", "control")),
        (("--grpc", "127.0.0.1:0"), ("metrics", "grpc")),
    ],
)
def test_a_daemon_whose_sockets_nobody_holds_does_not_leave(
    tmp_path: Path, options: tuple[str, ...], missing: tuple[str, ...]
) -> None:
    with launched(tmp_path, "--metrics", "127.0.0.1:0", "--exit-on-idle", "5", *options) as daemon:
        assert daemon.process.wait(60) == 1
    assert "the daemon cannot leave when it is idle" in daemon.log
    assert all(name in daemon.log for name in missing), daemon.log


def test_a_socket_for_no_door_is_refused(tmp_path: Path) -> None:
    with (
        bind_tcp("127.0.0.1", 0, 1) as bound,
        launched(tmp_path, inherited=[("htpt", bound)]) as daemon,
    ):
        assert daemon.process.wait(60) == 1
    assert "a socket was passed as 'htpt', and there is no such door" in daemon.log


def test_a_socket_that_is_open_to_other_machines_is_refused(tmp_path: Path) -> None:
    with (
        bind_tcp("0.0.0.0", 0, 1) as bound,
        launched(tmp_path, inherited=[("http", bound)]) as daemon,
    ):
        assert daemon.process.wait(60) == 78
    assert "doors.remote does not let them in" in daemon.log


def test_f34_a_killed_daemon_takes_all_its_processes_and_the_next_one_serves(
    tmp_path: Path, held: Held
) -> None:
    with held.running(tmp_path) as daemon:
        daemon.register(make_archive(tmp_path, config=BATCHES))
        family = psutil.Process(daemon.pid).children(recursive=True)
        assert len(family) >= 3
        daemon.process.kill()
        _, alive = psutil.wait_procs(family, timeout=2)
        assert alive == []
    with held.running(tmp_path) as daemon:
        assert ask(held.port("http"), b"again") == b"again"
        assert daemon.stop() == 0


def test_f34_a_daemon_that_is_killed_early_leaves_no_fork_server(
    tmp_path: Path, held: Held
) -> None:
    with held.launched(tmp_path) as daemon:
        # It answers before torch is imported.
        assert daemon.call("GET", "/tsd/status").json()["fork_server"]["state"] == "starting"
        family = psutil.Process(daemon.pid).children(recursive=True)
        assert family
        daemon.process.kill()
        assert psutil.wait_procs(family, timeout=2)[1] == []


def test_who_follows_the_log_does_not_hold_up_the_stop(daemon: RunningDaemon) -> None:
    following = UnixConnection(daemon.control)
    following.request("GET", "/tsd/logs?follow=true")
    response = following.getresponse()
    assert response.readline()
    asked_at = time.monotonic()
    assert daemon.stop() == 0
    assert response.read().endswith(b"\n")
    following.close()
    # Less than it would be waited for otherwise.
    assert time.monotonic() - asked_at < 5
