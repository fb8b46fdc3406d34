"""What a worker says to the daemon: answers, pieces of answers, what the handler measured.

Small answers travel in their notice, larger ones in the answer segment, in a slot that the
daemon grants. Handlers may send pieces from threads of their own."""

from __future__ import annotations

import socket
import struct
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from typing import Protocol

from tsd.ipc import channel as wire
from tsd.ipc.layout import (
    ANSWER,
    HEADER,
    MAX_TEXT_BYTES,
    NOTICE_BYTES,
    Header,
    NoticeKind,
    Outcome,
    OutgoingAnswer,
    body_offset,
    inline_limit,
    pack_answers,
    pack_bodies,
    pack_notice,
    pack_text,
    slot_bytes,
    unpack_header,
    write_head,
)
from tsd.worker import gpu
from tsd.worker.codec import Answer, Bodies, answers_with
from tsd.worker.gpu import GpuMemory

# What was measured goes to the daemon this often, and a little later than what it belongs to.
METRICS_S = 0.1
PART_BYTES = NOTICE_BYTES - HEADER.size - ANSWER.size


class Outbox:
    """The worker's end of the channel, and its answer segment."""

    def __init__(self, channel: socket.socket, segment: memoryview, max_answer_bytes: int) -> None:
        self.channel = channel
        self._segment = segment
        self._max_answer_bytes = max_answer_bytes
        self._ahead: deque[bytes] = deque()
        self._patience_s: float | None = None
        self._sending = threading.Lock()

    def receive(self, patience_s: float | None = None) -> bytes | None:
        """The next notice; empty when the daemon has gone, None when none came for so long."""
        return self._ahead.popleft() if self._ahead else self._wait(patience_s)

    def _wait(self, patience_s: float | None) -> bytes | None:
        if patience_s != self._patience_s:
            # By the kernel: waiting for the descriptor first would cost each batch a call more.
            self.channel.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, _timeval(patience_s))
            self._patience_s = patience_s
        try:
            return wire.receive_notice(self.channel)
        except BlockingIOError:
            return None

    def receive_waiting(self) -> bytes | None:
        """The next notice if one is there, else None."""
        if self._ahead:
            return self._ahead.popleft()
        try:
            return wire.receive_notice(self.channel, socket.MSG_DONTWAIT)
        except BlockingIOError:
            return None

    def send_answers(
        self,
        batch_id: int,
        grant: tuple[int, int],
        jobs: Sequence[int],
        answers: Bodies | list[Answer],
    ) -> None:
        """Give a batch back: the answers to its jobs. `grant`: offset and bytes of its slot."""
        if isinstance(answers, Bodies):
            limit = min(inline_limit(len(answers)), self._max_answer_bytes)
            if max(map(len, answers)) <= limit:
                self._send(pack_bodies(batch_id, answers))
                return
        packed = list(map(self._pack, jobs, answers_with(answers)))
        self._send(pack_answers(batch_id, self._place(batch_id, grant, packed)))

    def send_part(self, batch_id: int, job_id: int, answer: Answer) -> None:
        """A piece of an answer before the rest; what is too long for a notice goes in several."""
        head, body = answer_head(answer), memoryview(answer.body)
        if not len(body):
            return
        for begin in range(0, len(body), PART_BYTES - len(head)):
            piece = body[begin : begin + PART_BYTES - len(head)]
            part = OutgoingAnswer(job_id, Outcome.OK, answer.status, head, piece)
            self._send(pack_answers(batch_id, [part], NoticeKind.PARTS))

    def send_metrics(self, lines: Sequence[str]) -> None:
        """What the handler measured since the last time."""
        text = ""
        for line in lines:
            if text and len(text) + len(line) > MAX_TEXT_BYTES // 4:  # four bytes a letter at most
                self._send(pack_text(NoticeKind.METRICS, text))
                text = ""
            text += f"{line}\n"
        if text:
            self._send(pack_text(NoticeKind.METRICS, text))

    def send_memory(self, memory: GpuMemory) -> None:
        """What this process holds on its GPUs."""
        self._send(pack_notice(NoticeKind.MEMORY, 0, *memory))

    def _send(self, notice: bytes) -> None:
        with self._sending:
            wire.send_notice(self.channel, notice)

    def _pack(self, job_id: int, answer: Answer) -> OutgoingAnswer:
        if answer.outcome != Outcome.OK:
            text = answer.message.encode()
            return OutgoingAnswer(job_id, answer.outcome, answer.status, b"", text)
        if len(answer.body) > self._max_answer_bytes:
            return OutgoingAnswer(job_id, Outcome.TOO_LARGE, 500, b"", b"")
        return OutgoingAnswer(job_id, Outcome.OK, answer.status, answer_head(answer), answer.body)

    def _place(
        self, batch_id: int, grant: tuple[int, int], answers: list[OutgoingAnswer]
    ) -> list[OutgoingAnswer]:
        """Write the answers that are too large for the notice into the answer segment."""
        limit = inline_limit(len(answers))
        needed = sum(_segment_bytes(answer, limit) for answer in answers)
        if not needed:
            return answers
        offset, granted = grant
        if granted < needed:
            offset, granted = self._ask_for(batch_id, needed)
        placed = []
        for answer in answers:
            size = _segment_bytes(answer, limit)
            if size and granted < needed:
                answer = _refused(answer)
            elif size:
                answer = self._write(answer, offset)
                offset += size
            placed.append(answer)
        return placed

    def _ask_for(self, batch_id: int, size: int) -> tuple[int, int]:
        self._send(pack_notice(NoticeKind.NEED, batch_id, size))
        while notice := self._wait(None):
            header = unpack_header(notice)
            if header.kind == NoticeKind.GRANT:
                return header.first, header.second
            self._ahead.append(notice)
        raise SystemExit(0)

    def _write(self, answer: OutgoingAnswer, offset: int) -> OutgoingAnswer:
        write_head(self._segment, offset, answer.head, len(answer.body))[:] = answer.body
        return answer._replace(offset=offset)


class Measured(Protocol):
    """What is needed of a handler's `context.metrics`."""

    @property
    def has_pending(self) -> bool: ...
    def flush(self) -> list[str]: ...


class MetricsSender:
    """Sends what the handler measured, and the GPU memory beside it, not more often than
    `METRICS_S`."""

    def __init__(
        self,
        outbox: Outbox,
        metrics: Measured,
        read_memory: Callable[[], GpuMemory | None] = gpu.memory,
    ) -> None:
        self._outbox = outbox
        self._metrics = metrics
        self._read_memory = read_memory
        self._told_memory: GpuMemory | None = None
        self._due = 0.0

    @property
    def has_pending(self) -> bool:
        """Whether there is something to send."""
        return self._metrics.has_pending

    def send_if_due(self) -> None:
        """Send unless that was done a moment ago."""
        if self._metrics.has_pending and time.monotonic() >= self._due:
            self.send()

    def send(self) -> None:
        """Send what there is."""
        self._due = time.monotonic() + METRICS_S
        lines = self._metrics.flush()
        if lines:
            self._outbox.send_metrics(lines)
        memory = self._read_memory()
        if memory is not None and memory != self._told_memory:
            self._outbox.send_memory(memory)
            self._told_memory = memory


def answer_head(answer: Answer) -> bytes:
    """The head block of an answer; empty when the handler set nothing."""
    if not answer.headers and not answer.reason:
        return b""
    fields = [answer.reason, *[field for pair in answer.headers for field in pair]]
    return b"\0".join(field.encode("latin-1", "replace") for field in fields)


def _timeval(seconds: float | None) -> bytes:
    """A `struct timeval`; of 0 for ever."""
    microseconds = round((seconds or 0.0) * 1e6)
    return struct.pack("@ll", *divmod(microseconds, 1_000_000))


def grant_of(header: Header) -> tuple[int, int]:
    """Offset and bytes of the slot that a BATCH notice grants."""
    return header.first, header.second


def _segment_bytes(answer: OutgoingAnswer, limit: int) -> int:
    """What the answer takes of the segment; 0 when it travels in the notice."""
    if len(answer.head) + len(answer.body) <= limit:
        return 0
    return body_offset(slot_bytes(len(answer.head), len(answer.body)))


def _refused(answer: OutgoingAnswer) -> OutgoingAnswer:
    text = b"The answer is larger than the answer segment allows."
    return OutgoingAnswer(answer.job_id, Outcome.BAD_OUTPUT, 500, b"", text)
