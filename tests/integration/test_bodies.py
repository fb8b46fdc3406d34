"""Large bodies through a real daemon: lent, one after the other, bounded, and their memory."""

from __future__ import annotations

import http.client
import os
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.archives import make_archive
from tests.support.daemon import RunningDaemon, UnixConnection, running

MIB = 1024 * 1024
PATH = "/predictions/ends"
# Says of which kind a body is, how long, and how it begins and ends.
ENDS = """
    def handle(data, context):
        return [
            f"{type(row['body']).__name__} {len(row['body'])} "
            f"{bytes(row['body'][:4]).hex()} {bytes(row['body'][-4:]).hex()}"
            for row in data or ()
        ]
"""


@pytest.fixture(scope="module")
def daemon(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningDaemon]:
    """A model that takes views; room for two of the largest bodies."""
    folder = tmp_path_factory.mktemp("bodies")
    config = "minWorkers: 1\nmaxWorkers: 1\nbodyViews: true\n"
    limits = {
        "TSD_HTTP_MAX_REQUEST_BYTES": str(16 * MIB),
        "TSD_HTTP_MAX_HEAP_BYTES": str(4 * MIB),
        "TSD_SERVING_ARENA_BYTES": str(40 * MIB),
        "TSD_SERVING_ARENA_IDLE_S": "0.5",
    }
    with running(folder, environment=limits) as process:
        process.register(make_archive(folder, "ends", ENDS, config), initial_workers=1)
        yield process


def connections(daemon: RunningDaemon) -> list[http.client.HTTPConnection]:
    """By TCP and by the Unix socket."""
    by_tcp = http.client.HTTPConnection("127.0.0.1", daemon.port(), timeout=60)
    return [by_tcp, UnixConnection(daemon.runtime_dir / "http.sock")]


def ask(connection: http.client.HTTPConnection, body: bytes | Iterator[bytes]) -> tuple[int, str]:
    is_chunked = not isinstance(body, bytes)
    connection.request("POST", PATH, body, encode_chunked=is_chunked)
    answer = connection.getresponse()
    return answer.status, answer.read().decode()


def ends(body: bytes) -> tuple[int, str]:
    """What the model says of it."""
    return 200, f"memoryview {len(body)} {body[:4].hex()} {body[-4:].hex()}"


def arena_of(daemon: RunningDaemon) -> Path:
    """The memory of the model's requests, as the daemon's descriptor."""
    links = [path for path in Path(f"/proc/{daemon.pid}/fd").iterdir() if path.is_symlink()]
    return next(path for path in links if "tsd requests ends" in str(path.readlink()))


def reserved_bytes(memory: Path) -> int:
    return memory.stat().st_blocks * 512


def test_large_and_small_bodies_follow_each_other_on_one_connection(daemon: RunningDaemon) -> None:
    bodies = [os.urandom(size) for size in (5, 8 * MIB, 9 * MIB, 300_000, 7, 16 * MIB, 4_096, 0)]
    for connection in connections(daemon):
        for body in bodies:
            assert ask(connection, body) == ends(body)
        connection.close()


def test_chunked_bodies_are_bounded_in_sum(daemon: RunningDaemon) -> None:
    piece = os.urandom(65_536)
    unfinished, other = connections(daemon)[0], connections(daemon)[0]
    unfinished.putrequest("POST", PATH)
    unfinished.putheader("Transfer-Encoding", "chunked")
    unfinished.endheaders()
    unfinished.send((b"10000\r\n" + piece + b"\r\n") * 200)
    # The daemon has read it all when what comes on top finds no room.
    until = time.monotonic() + 30
    while (said := ask(other, iter([piece] * 60)))[0] == 200:
        assert time.monotonic() < until, "chunked bodies are not bounded"
    assert said[0] == 503
    unfinished.send(b"0\r\n\r\n")
    assert unfinished.getresponse().status == 200
    other.close()
    assert ask(other, iter([piece] * 60)) == ends(piece * 60)
    for connection in (unfinished, other):
        connection.close()


def test_memory_is_given_back_and_serves_again(daemon: RunningDaemon) -> None:
    connection, memory = connections(daemon)[0], arena_of(daemon)
    for _time in range(2):
        body = os.urandom(15 * MIB)
        assert ask(connection, body) == ends(body)
        assert reserved_bytes(memory) > 15 * MIB
        until = time.monotonic() + 30
        while reserved_bytes(memory) > MIB:
            assert time.monotonic() < until, "the memory stays"
    connection.close()
