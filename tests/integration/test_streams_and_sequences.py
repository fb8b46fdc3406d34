"""Answers in pieces, jobs that overlap in a worker, and requests that belong together."""

from __future__ import annotations

import contextlib
import http.client
import os
import signal
import socket
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.support.archives import make_archive
from tests.support.daemon import Answer, RunningDaemon, running, wait_for

STREAMER = """
    import os
    from ts.handler_utils.utils import send_intermediate_predict_response as send
    def handle(data, context):
        if data is None: return None
        text = data[0]["body"].decode()
        if text == "long":
            for _ in range(4096):
                send(["x" * 8192], context.request_ids, "", 200, context)
            return ["end"]
        context.set_response_header(0, "X-Mine", "yes")
        context.set_response_status(202, "Begun", 0)
        for piece in ("one ", "two "):
            send([piece], context.request_ids, "", 200, context)
        if text == "raise": raise ValueError("in the middle")
        if text == "die": os._exit(3)
        return ["last"]
"""

# A request that says N is finished after N steps; its pieces say who else took part.
STEPPER = """
    class H:
        def initialize(self, context): self.left = {}
        def handle(self, data, context):
            out, criteria = [], []
            for i, row in enumerate(data):
                key = context.get_request_id(i)
                if "body" in row: self.left[key] = int(row["body"])
                self.left[key] -= 1
                out.append(f"{len(data)}")
                criteria.append(lambda _, left=self.left[key]: left == 0)
            context.stopping_criteria = criteria
            return out
"""

# `wait` is answered when `go` has come: only calls that overlap can do that.
WAITER = """
    import asyncio
    class H:
        def initialize(self, context): self.gates = {}
        async def handle(self, data, context):
            verb, _, name = data[0]["body"].decode().partition(" ")
            gate = self.gates.setdefault(name, asyncio.Event())
            if verb == "raise": raise ValueError("only this one")
            if verb == "go": gate.set()
            else:
                self.open(f"{name} began")
                try: await gate.wait()
                except asyncio.CancelledError: self.open(f"{name} ended"); raise
            return [f"{verb} {context.get_request_id(0)}"]
        def open(self, name): self.gates.setdefault(name, asyncio.Event()).set()
"""

# Never finished.
ENDLESS = """
    class H:
        def initialize(self, context): pass
        def handle(self, data, context):
            context.stopping_criteria = [lambda _: False] * len(data)
            return ["again"] * len(data)
"""

# The first call holds up all others until somebody writes to the pipe that it names.
STUBBORN = """
    class H:
        def initialize(self, context): self.is_first = True
        async def handle(self, data, context):
            if self.is_first:
                self.is_first = False
                with open(data[0]["body"].decode()) as pipe: pipe.read()
            return ["ok"]
"""

COUNTER = """
    import os
    class H:
        def initialize(self, context): self.seen = {}
        def handle(self, data, context):
            out = []
            for i, row in enumerate(data):
                name = context.get_sequence_id(i)
                if row["body"] == b"die": os._exit(3)
                self.seen[name] = self.seen.get(name, 0) + 1
                start = context.get_request_header(i, context.header_key_sequence_start)
                out.append({"id": name, "n": self.seen[name], "start": start, "pid": os.getpid()})
            return out
"""
SEQUENCES = """
    minWorkers: 2
    maxWorkers: 2
    batchSize: 2
    sequenceBatching: true
    maxNumSequence: 4
    maxSequenceJobQueueSize: 2
    sequenceMaxIdleMSec: 60000
"""
ENDING = """
    class H:
        def initialize(self, context): pass
        def handle(self, data, context):
            for i in range(len(data)):
                key = context.header_key_sequence_end
                if context.get_request_header(i, key) == "true":
                    context.set_response_header(i, key, context.get_sequence_id(i))
            return ["ok"] * len(data)
"""
ONE = "minWorkers: 1\nmaxWorkers: 1\n"


@pytest.fixture(scope="module")
def daemon(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningDaemon]:
    folder = tmp_path_factory.mktemp("streams")
    stepper = f"{ONE}batchSize: 4\nmaxBatchDelay: 200\ncontinuousBatching: true\n"
    ending = (
        f"{ONE}batchSize: 2\ncontinuousBatching: true\nsequenceBatching: true\n"
        "maxNumSequence: 1\nsequenceMaxIdleMSec: 60000\n"
    )
    with running(folder) as daemon:
        for archive in (
            make_archive(folder, "streamer", STREAMER, ONE),
            make_archive(folder, "stepper", STEPPER, stepper),
            make_archive(folder, "waiter", WAITER, f"{ONE}asyncCommunication: true\n"),
            make_archive(folder, "counter", COUNTER, SEQUENCES),
            make_archive(folder, "ending", ENDING, ending),
        ):
            daemon.register(archive)
        yield daemon


def ask(daemon: RunningDaemon, model: str, body: str) -> Answer:
    return daemon.call("POST", f"/predictions/{model}", body.encode())


def sequence(daemon: RunningDaemon, name: str, body: str = "x") -> tuple[int, dict[str, object]]:
    answer = daemon.call(
        "POST", "/predictions/counter", body.encode(), {"ts_request_sequence_id": name}
    )
    return answer.status, answer.json()


def received_until_the_end(client: socket.socket) -> int:
    received = 0
    with contextlib.suppress(ConnectionResetError):
        while data := client.recv(65_536):
            received += len(data)
    return received


def test_pieces_reach_the_client_with_the_handlers_status_and_headers(
    daemon: RunningDaemon,
) -> None:
    answer = ask(daemon, "streamer", "x")
    assert (answer.status, answer.body) == (202, b"one two last")
    assert answer.headers["x-mine"] == "yes"
    assert answer.headers["ts_stream_next"] == "true"
    assert answer.headers["transfer-encoding"] == "chunked"


@pytest.mark.parametrize("body", ["raise", "die"])
def test_an_answer_that_breaks_off_is_seen_as_broken(daemon: RunningDaemon, body: str) -> None:
    with pytest.raises((http.client.IncompleteRead, ConnectionResetError)):
        ask(daemon, "streamer", body)
    assert ask(daemon, "streamer", "x").body == b"one two last"


def test_a_client_that_does_not_read_its_stream_is_cut_off(tmp_path: Path) -> None:
    environment = {"TSD_SERVING_STREAM_BUFFER_BYTES": "1000000"}
    with running(tmp_path, environment=environment) as daemon:
        daemon.register(make_archive(tmp_path, "streamer", STREAMER, ONE))
        with socket.create_connection(("127.0.0.1", daemon.port()), timeout=60) as client:
            client.sendall(b"POST /predictions/streamer HTTP/1.1\r\nHost: x\r\n")
            client.sendall(b"Content-Length: 4\r\n\r\nlong")
            # The handler is finished with what nobody reads: the next one is served.
            assert ask(daemon, "streamer", "x").body == b"one two last"
            assert received_until_the_end(client) < 4096 * 8192


def test_jobs_join_and_leave_a_running_batch(daemon: RunningDaemon) -> None:
    with ThreadPoolExecutor() as pool:
        bodies = list(pool.map(lambda n: ask(daemon, "stepper", n).body, ("1", "2", "3")))
    # Whoever came together, each took as many steps as it asked for.
    assert [len(body) for body in bodies] == [1, 2, 3]


def test_calls_of_an_asynchronous_handler_overlap(daemon: RunningDaemon) -> None:
    with ThreadPoolExecutor() as pool:
        waiting = [pool.submit(lambda: ask(daemon, "waiter", "wait a").body) for _ in range(3)]
        wait_for(lambda: daemon.model("waiter")["workers"][0]["state"] == "busy")
        assert ask(daemon, "waiter", "raise a").status == 503
        assert ask(daemon, "waiter", "go a").body.startswith(b"go ")
        answers = {one.result() for one in waiting}
    assert len(answers) == 3
    assert all(answer.startswith(b"wait ") for answer in answers)


def test_a_call_whose_client_has_gone_is_cancelled(daemon: RunningDaemon) -> None:
    with socket.create_connection(("127.0.0.1", daemon.port()), timeout=60) as client:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        client.sendall(b"POST /predictions/waiter HTTP/1.1\r\nHost: x\r\n")
        client.sendall(b"Content-Length: 6\r\n\r\nwait b")
        assert ask(daemon, "waiter", "wait b began").status == 200
    assert ask(daemon, "waiter", "wait b ended").status == 200
    wait_for(lambda: daemon.model("waiter")["workers"][0]["state"] == "idle")


def test_beyond_its_deadline_a_job_leaves_the_running_batch(tmp_path: Path) -> None:
    config = f"{ONE}continuousBatching: true\nclientTimeoutInMills: 300\n"
    with running(tmp_path) as daemon:
        daemon.register(make_archive(tmp_path, "endless", ENDLESS, config))
        for _ in range(3):
            # There is one place in the batch: whoever is begun has found it free.
            with pytest.raises((http.client.IncompleteRead, ConnectionResetError)):
                ask(daemon, "endless", "x")


def test_calls_wait_for_a_worker_that_does_not_listen(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    with running(tmp_path) as daemon, contextlib.ExitStack() as stack:
        config = f"{ONE}asyncCommunication: true\n"
        daemon.register(make_archive(tmp_path, "stubborn", STUBBORN, config))
        bodies = [str(pipe).encode(), *[b"x" * 3_800] * 99]
        clients = [
            stack.enter_context(socket.create_connection(("127.0.0.1", daemon.port()), timeout=60))
            for _ in bodies
        ]
        for client, body in zip(clients, bodies, strict=True):
            client.sendall(b"POST /predictions/stubborn HTTP/1.1\r\nHost: x\r\n")
            client.sendall(b"Content-Length: %d\r\n\r\n%b" % (len(body), body))
        workers = daemon.worker_pids("stubborn")
        pipe.write_text("go on")
        assert {client.recv(12) for client in clients} == {b"HTTP/1.1 200"}
        assert daemon.worker_pids("stubborn") == workers


def test_a_worker_that_is_told_to_stop_still_hears_who_has_gone(tmp_path: Path) -> None:
    with running(tmp_path) as daemon:
        config = f"{ONE}asyncCommunication: true\n"
        daemon.register(make_archive(tmp_path, "waiter", WAITER, config))
        with socket.create_connection(("127.0.0.1", daemon.port()), timeout=60) as client:
            client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
            client.sendall(b"POST /predictions/waiter HTTP/1.1\r\nHost: x\r\n")
            client.sendall(b"Content-Length: 6\r\n\r\nwait c")
            assert ask(daemon, "waiter", "wait c began").status == 200
            daemon.call("PUT", "/models/waiter?min_worker=0&max_worker=0")
        # The call would wait for ever, and the worker for it.
        wait_for(lambda: not daemon.model("waiter")["workers"], 60)


def test_with_job_tickets_each_free_worker_is_given_a_job(tmp_path: Path) -> None:
    config = "minWorkers: 2\nmaxWorkers: 2\nuseJobTicket: true\n"
    with running(tmp_path) as daemon:
        daemon.register(make_archive(tmp_path, "echo", config=config))
        request = b"POST /predictions/echo HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\nhi"
        with socket.create_connection(("127.0.0.1", daemon.port()), timeout=60) as client:
            # In one write, so that they come in one turn of the daemon's loop.
            client.sendall(2 * request)
            client.shutdown(socket.SHUT_WR)
            answers = b"".join(iter(lambda: client.recv(65_536), b""))
        assert answers.count(b"HTTP/1.1 200 ") == 2


def test_a_sequence_stays_with_one_worker_and_keeps_its_state(daemon: RunningDaemon) -> None:
    first = [sequence(daemon, "a")[1] for _ in range(3)]
    other = [sequence(daemon, "b")[1] for _ in range(2)]
    assert [answer["n"] for answer in first + other] == [1, 2, 3, 1, 2]
    assert len({answer["pid"] for answer in first}) == 1
    assert first[0]["start"] is None


def test_a_request_without_an_id_begins_a_sequence(daemon: RunningDaemon) -> None:
    begun = daemon.call("POST", "/predictions/counter", b"x").json()
    assert begun["id"].startswith("ts-seq-")
    assert (begun["n"], begun["start"]) == (1, "true")
    assert sequence(daemon, begun["id"])[1]["n"] == 2


def test_more_sequences_than_allowed_are_refused_until_one_loses_its_worker(
    tmp_path: Path,
) -> None:
    with running(tmp_path) as daemon:
        daemon.register(make_archive(tmp_path, "counter", COUNTER, SEQUENCES))
        assert [sequence(daemon, name)[0] for name in "abcd"] == [200] * 4
        status, error = sequence(daemon, "e")
        assert (status, error["type"]) == (503, "ServiceUnavailableException")
        # State that is gone cannot be rerun elsewhere: the request fails, and once.
        assert sequence(daemon, "a", "die")[0] == 500
        wait_for(lambda: sequence(daemon, "e")[0] == 200)
        assert sequence(daemon, "a")[1]["n"] == 1


def test_a_killed_worker_fails_what_its_sequences_waited_for(daemon: RunningDaemon) -> None:
    with ThreadPoolExecutor() as pool:
        barrier = threading.Barrier(2)

        def flood() -> list[int]:
            barrier.wait()
            return [sequence(daemon, "flood")[0] for _ in range(200)]

        flooding = pool.submit(flood)
        barrier.wait()
        for pid in daemon.worker_pids("counter"):
            os.kill(pid, signal.SIGKILL)
        statuses = flooding.result()
    assert set(statuses) <= {200, 500, 503}
    wait_for(lambda: len(daemon.worker_pids("counter")) == 2)
    assert sequence(daemon, "flood")[0] == 200


def test_a_header_of_the_answer_ends_a_sequence_of_a_continuous_model(
    daemon: RunningDaemon,
) -> None:
    def send(name: str, **more: str) -> int:
        headers = {"ts_request_sequence_id": name, **more}
        return daemon.call("POST", "/predictions/ending", b"x", headers).status

    assert send("a") == 200
    assert send("b") == 503
    assert send("a", ts_request_sequence_end="true") == 200
    assert send("b") == 200
