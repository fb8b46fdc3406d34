"""A running model gets other limits of batches: at once, for good, and without losing a request."""

from __future__ import annotations

import asyncio
import json
import threading
from pathlib import Path

import pytest

from tests.support.archives import make_archive
from tests.support.daemon import RunningDaemon, running
from tests.support.load import echo_load

# Says how large the batch was, and how large it had been told that batches are.
TELLING = """
    import time

    def handle(data, context):
        if data is None:
            return None
        time.sleep(0.005)
        told = context.system_properties["batch_size"]
        return [{"rows": len(data), "told": told} for _ in data]
"""
TWO_WORKERS = "minWorkers: 2\nmaxWorkers: 2\nbatchSize: 4\n"
MANY_ROWS = 64


def change(daemon: RunningDaemon, query: str, model: str = "echo") -> None:
    answer = daemon.call("PUT", f"/models/{model}?{query}&synchronous=true")
    assert answer.status == 200, answer.body


@pytest.mark.parametrize("batch_size", [1, MANY_ROWS])
def test_under_load_nothing_is_lost_while_all_workers_are_replaced(
    daemon: RunningDaemon, tmp_path: Path, batch_size: int
) -> None:
    daemon.register(make_archive(tmp_path, config=TWO_WORKERS))
    before, changed = set(daemon.worker_pids("echo")), threading.Event()

    def changing() -> None:
        try:
            change(daemon, f"batch_size={batch_size}")
        finally:
            changed.set()

    changer = threading.Thread(target=changing)
    changer.start()
    verdict = asyncio.run(
        echo_load(daemon.port(), 100_000, MANY_ROWS, is_over=lambda _: changed.is_set())
    )
    changer.join()
    after = set(daemon.worker_pids("echo"))
    assert not verdict.wrong
    assert len(after) == len(before) == 2
    assert not before & after
    assert daemon.model("echo")["batch_size"] == batch_size


def test_bodies_that_fill_a_notice_at_the_old_size_cross_at_the_new_one(
    daemon: RunningDaemon, tmp_path: Path
) -> None:
    daemon.register(make_archive(tmp_path, handler=TELLING, config="minWorkers: 1\nmaxWorkers: 1"))
    body = b"x" * 3_500
    rows = asyncio.run(changed_while_they_wait(daemon, body))
    assert all(told == MANY_ROWS or rows == 1 for rows, told in rows)
    assert daemon.model("echo")["restarts"] == 0


async def changed_while_they_wait(daemon: RunningDaemon, body: bytes) -> list[tuple[int, int]]:
    """The batches of many large requests, some of which were not whole when the size changed."""
    clients = [await asyncio.open_connection("127.0.0.1", daemon.port()) for _ in range(100)]
    head = f"POST /predictions/echo HTTP/1.1\r\nHost: t\r\nContent-Length: {len(body)}\r\n\r\n"
    for _, writer in clients:
        writer.write(head.encode() + body[:-1])
        await writer.drain()
    for _, writer in clients[:50]:
        writer.write(body[-1:])
    await asyncio.to_thread(change, daemon, f"batch_size={MANY_ROWS}")
    for _, writer in clients[50:]:
        writer.write(body[-1:])
    answers = [await answer_of(reader) for reader, _ in clients]
    for _, writer in clients:
        writer.close()
    return answers


async def answer_of(reader: asyncio.StreamReader) -> tuple[int, int]:
    head = (await reader.readuntil(b"\r\n\r\n")).lower()
    assert head.startswith(b"http/1.1 200"), head
    length = int(head.split(b"content-length: ")[1].split(b"\r\n")[0])
    answer = json.loads(await reader.readexactly(length))
    return answer["rows"], answer["told"]


def test_the_limits_are_told_and_remembered(tmp_path: Path) -> None:
    archive = make_archive(tmp_path, config=TWO_WORKERS)
    with running(tmp_path) as daemon:
        daemon.register(archive)
        change(daemon, "batch_size=16&max_batch_delay=20")
        assert limits(daemon) == (16, 20, "request", "request")
        assert daemon.model("echo")["wanted_workers"] == 2
        daemon.stop()
    with running(tmp_path) as daemon:
        assert limits(daemon) == (16, 20, "request", "request")
        change(daemon, "min_worker=1&max_worker=1")
        assert limits(daemon) == (16, 20, "request", "request")


def limits(daemon: RunningDaemon) -> tuple[int, int, str, str]:
    model = daemon.model("echo")
    origins = model["origins"]
    return (
        model["batch_size"],
        model["max_batch_delay_ms"],
        origins["batch_size"],
        origins["max_batch_delay_ms"],
    )


def test_a_wrong_limit_changes_nothing(daemon: RunningDaemon, tmp_path: Path) -> None:
    daemon.register(make_archive(tmp_path, config=TWO_WORKERS))
    before = daemon.worker_pids("echo")
    refused = daemon.call("PUT", "/models/echo?min_worker=1&batch_size=0")
    assert refused.status == 400
    assert "batch_size" in refused.json()["message"]
    assert daemon.worker_pids("echo") == before
    assert limits(daemon)[0] == 4


def test_sequences_keep_their_workers(daemon: RunningDaemon, tmp_path: Path) -> None:
    config = "minWorkers: 1\nmaxWorkers: 1\nsequenceBatching: true\nmaxNumSequence: 2\n"
    daemon.register(make_archive(tmp_path, config=config))
    refused = daemon.call("PUT", "/models/echo?batch_size=4")
    assert (refused.status, "sequences" in refused.json()["why"]) == (400, True)


def test_where_the_new_workers_fail_the_old_ones_serve_on(
    daemon: RunningDaemon, tmp_path: Path
) -> None:
    handler = """
        def handle(data, context):
            if context.system_properties["batch_size"] > 4:
                raise MemoryError("too much")
            if data is None:
                return None
            return [row.get("body") for row in data]
    """
    daemon.register(make_archive(tmp_path, handler=handler, config=TWO_WORKERS))
    before = daemon.worker_pids("echo")
    failed = daemon.call("PUT", "/models/echo?batch_size=8&synchronous=true")
    assert failed.status >= 500, failed.body
    assert daemon.worker_pids("echo") == before
    assert daemon.call("POST", "/predictions/echo", b"still here").body == b"still here"
    change(daemon, "batch_size=4")
    assert daemon.worker_pids("echo") == before
