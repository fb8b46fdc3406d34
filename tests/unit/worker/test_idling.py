"""What a worker does while no notice comes."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from tsd.ipc.layout import NoticeKind, unpack_header, unpack_text
from tsd.worker.idling import Idling, give_back
from tsd.worker.outbox import MetricsSender, Outbox


def resident_pages() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1])


def test_what_is_free_goes_back_to_the_machine() -> None:
    give_back()
    # Small pieces with one that stays behind them: the C library keeps such a heap.
    pieces = [bytes(100_000) + bytes([number % 250 + 1]) for number in range(1_000)]
    last = pieces.pop()
    before = resident_pages()
    del pieces
    give_back()
    assert before - resident_pages() > 10_000
    assert last


class Measured:
    """Who has measured something, or not."""

    has_pending = False

    def flush(self) -> list[str]:
        self.has_pending = False
        return ["a line"]


class Scene:
    """A worker that waits, at the other end of the daemon's channel."""

    def __init__(self, daemon: socket.socket, channel: socket.socket, idle_s: float) -> None:
        self.daemon = daemon
        self.measured = Measured()
        self.outbox = Outbox(channel, memoryview(b""), 1 << 20)
        sender = MetricsSender(self.outbox, self.measured, lambda: None)
        self.released = 0
        self.idling = Idling(self.outbox, sender, idle_s, self.release)

    def release(self) -> None:
        self.released += 1


@pytest.fixture
def scene() -> Iterator[Scene]:
    daemon, channel = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with daemon, channel:
        yield Scene(daemon, channel, idle_s=0.001)


def test_a_notice_that_is_there_is_not_waited_for(scene: Scene) -> None:
    scene.daemon.send(b"one")
    scene.daemon.send(b"two")
    assert [scene.idling.next_notice(), scene.idling.next_notice()] == [b"one", b"two"]


def test_memory_goes_back_once_and_the_wait_goes_on(scene: Scene) -> None:
    timer = threading.Timer(0.05, scene.daemon.send, [b"late"])
    timer.start()
    assert scene.idling.next_notice() == b"late"
    timer.join()
    assert scene.released == 1


def test_what_was_measured_is_told_when_no_more_comes(scene: Scene) -> None:
    scene.measured.has_pending = True
    scene.daemon.send(b"one")
    assert scene.idling.next_notice() == b"one"
    told = scene.daemon.recv(1000)
    assert unpack_header(told).kind is NoticeKind.METRICS
    assert unpack_text(told) == "a line\n"
    # So soon after the last time it is not told at once, but before anything is waited for long.
    scene.measured.has_pending = True
    waiting = threading.Thread(target=scene.idling.next_notice)
    waiting.start()
    assert unpack_text(scene.daemon.recv(1000)) == "a line\n"
    scene.daemon.send(b"two")
    waiting.join()


def test_the_end_of_the_daemon_is_seen(scene: Scene) -> None:
    scene.daemon.close()
    assert scene.idling.next_notice() == b""


def test_a_grant_is_waited_for_however_long_it_takes(scene: Scene) -> None:
    assert scene.outbox.receive(0.001) is None
    scene.daemon.send(b"x")
    assert scene.outbox.receive(None) == b"x"
