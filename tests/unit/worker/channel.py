"""A channel without a kernel: what the daemon has sent, and what the worker sends."""

from __future__ import annotations

import os
import socket
from collections import deque
from dataclasses import dataclass
from typing import cast

from tsd.ipc.layout import (
    AnswerEntry,
    Header,
    NoticeKind,
    Outcome,
    pack_batch,
    unpack_answers,
    unpack_bodies,
    unpack_header,
)
from tsd.ipc.segment import Slot

READABLE = os.open(os.devnull, os.O_RDONLY)
NO_SEGMENT = memoryview(b"")


class FakeChannel:
    """Empty means that the daemon has gone, unless the worker asks without waiting."""

    def __init__(self, *incoming: bytes) -> None:
        self.incoming = deque(incoming)
        self.sent: list[bytes] = []

    def recv(self, _size: int, flags: int = 0) -> bytes:
        if self.incoming:
            return self.incoming.popleft()
        if flags:
            raise BlockingIOError
        return b""

    def send(self, notice: bytes) -> None:
        self.sent.append(notice)

    def setsockopt(self, _level: int, _option: int, value: bytes) -> None:
        """How long to wait, which nobody has to here."""

    def fileno(self) -> int:
        """Of something that can always be read, as a channel whose other end has closed."""
        return READABLE

    def as_socket(self) -> socket.socket:
        return cast(socket.socket, self)

    def answers(self, segment: memoryview = NO_SEGMENT) -> list[tuple[Header, AnswerEntry]]:
        """Every answer and piece of one that was sent, in order."""
        found = []
        for notice in self.sent:
            header = unpack_header(notice)
            if header.kind is NoticeKind.BODIES:
                bodies = unpack_bodies(notice, header.rows)
                for body in bodies:
                    entry = AnswerEntry(0, Outcome.OK, 200, b"", memoryview(body), is_shared=False)
                    found.append((header, entry))
            elif header.kind in (NoticeKind.ANSWERS, NoticeKind.PARTS):
                entries = unpack_answers(notice, header.rows, segment, (0, len(segment)))
                found += [(header, entry) for entry in entries]
        return found


@dataclass(frozen=True)
class SentJob:
    """A job as far as it crosses."""

    id: int
    request_id: bytes
    fields: bytes
    body: bytes
    slot: Slot | None = None


def job(number: int, body: bytes = b"x", fields: bytes = b"") -> SentJob:
    return SentJob(number, b"id%d" % number, fields, body)


def batch(*jobs: SentJob, batch_id: int = 0) -> bytes:
    return pack_batch(batch_id, (0, 0), jobs)
