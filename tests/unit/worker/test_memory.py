"""When a worker gives memory back."""

from __future__ import annotations

import socket
import time
from pathlib import Path

from tsd.worker.memory import IdleMemory, give_back


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


def test_a_notice_that_is_there_is_not_waited_for() -> None:
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with ours, theirs:
        theirs.send(b"notice")
        began_at = time.monotonic()
        IdleMemory(ours, idle_s=60.0).wait()
        assert time.monotonic() - began_at < 30.0


def test_without_any_the_wait_ends_and_the_notice_is_then_received() -> None:
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with ours, theirs:
        IdleMemory(ours, idle_s=0.001).wait()
        theirs.send(b"notice")
        assert ours.recv(100) == b"notice"
