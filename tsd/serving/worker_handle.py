"""The daemon's side of one worker: its channel, its answer segment, its batches.

End of file on the channel stops dispatch; only the pidfd says that the process is gone and its
slots may be reclaimed. No number that the worker wrote is believed. The process itself is in
worker_process.py; who gets a batch, and what becomes of a dead one's jobs, in pool.py."""

from __future__ import annotations

import asyncio
import enum
import socket
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import ClassVar

from tsd.errors import (
    BadOutput,
    HandlerRaised,
    OutOfResources,
    PredictionRefused,
    ProtocolError,
    TsdError,
)
from tsd.ipc.arguments import WorkerArguments
from tsd.ipc.channel import receive_notice, send_notice
from tsd.ipc.layout import (
    BODY_ALIGNMENT,
    AnswerEntry,
    Header,
    NoticeKind,
    Outcome,
    pack_batch,
    pack_notice,
    unpack_answers,
    unpack_fields,
    unpack_header,
    unpack_text,
)
from tsd.ipc.segment import Slot
from tsd.log import get_logger
from tsd.serving.arena import Arena
from tsd.serving.fork_server import ForkServer
from tsd.serving.job import Batch, Job, JobAnswer
from tsd.serving.worker_process import WorkerProcess
from tsd.settings import LogSettings

# Below this an answer is copied out of the segment and joined with its headers in one write.
COPIED_BYTES = 262_144
SLOT_PADDING = 2 * BODY_ALIGNMENT

log = get_logger()


class WorkerState(enum.Enum):
    """`starting` until the worker says that it is ready; `stopping` takes no new batch."""

    STARTING = "starting"
    IDLE = "idle"
    BUSY = "busy"
    STOPPING = "stopping"
    EXITED = "exited"


MOVES = {
    WorkerState.STARTING: {WorkerState.IDLE, WorkerState.STOPPING, WorkerState.EXITED},
    WorkerState.IDLE: {WorkerState.BUSY, WorkerState.STOPPING, WorkerState.EXITED},
    WorkerState.BUSY: {WorkerState.IDLE, WorkerState.STOPPING, WorkerState.EXITED},
    WorkerState.STOPPING: {WorkerState.EXITED},
    WorkerState.EXITED: set(),
}


@dataclass(frozen=True, slots=True)
class WorkerEvents:
    """What the pool is told: each call names the worker first."""

    on_phase: Callable[[WorkerHandle], None]
    on_ready: Callable[[WorkerHandle], None]
    on_answers: Callable[[WorkerHandle, Batch], None]
    on_exit: Callable[[WorkerHandle, list[Batch]], None]
    give_back_slot: Callable[[Slot], None]


class WorkerHandle:
    """One worker, from the wish for it to its last descriptor closed."""

    def __init__(
        self, arguments: WorkerArguments, request_arena: Arena, log_settings: LogSettings
    ) -> None:
        self.arguments = arguments
        self.number = arguments.number
        self.state = WorkerState.STARTING
        self.phase = "queued"
        self._loop = asyncio.get_running_loop()
        self.asked_at = time.monotonic()
        self.ready_after_s: float | None = None
        self.started_at = datetime.now(UTC)
        self.batches = 0
        self.outstanding: deque[Batch] = deque()
        self.exit_text = ""
        self.traceback = ""
        self.was_ready = False
        self.was_told_to_stop = False
        self._request_arena = request_arena
        self._log = log.bind(
            model=arguments.model_name, version=arguments.model_version, worker=self.number
        )
        self._process = WorkerProcess(self._log, log_settings, self._on_exit)
        self._answers = Arena(f"tsd answers {self.number}", arguments.answers_bytes)
        self._view = self._answers.segment.map_to_read()
        self._channel: socket.socket | None = None
        self._usual_answer_bytes = 0
        self._next_batch_id = 0
        self._forked_at = 0.0

    @property
    def pid(self) -> int:
        """Its process id; 0 until it is forked."""
        return self._process.pid

    @property
    def is_serving(self) -> bool:
        """Whether it may get batches."""
        return self.state in (WorkerState.IDLE, WorkerState.BUSY)

    def runs_since(self, now: float) -> float:
        """Seconds since its running batch began; 0 when none runs, or it waits for room."""
        if not self.outstanding or self.outstanding[0].is_waiting:
            return 0.0
        return now - self.outstanding[0].sent_at

    def sweep(self, now: float) -> None:
        """Answers for which there is no room until the deadline are refused."""
        self._answers.sweep(now)

    def starts_since(self, now: float) -> float:
        """Seconds since it was forked, while it is not ready yet; else 0."""
        return now - self._forked_at if self.state is WorkerState.STARTING and self.pid else 0.0

    async def start(self, fork_server: ForkServer, events: WorkerEvents) -> None:
        """Have the process forked and watch it. Raises StartFailed, then nothing is left."""
        self._events = events
        segments = (self._request_arena.segment.fd, self._answers.segment.fd)
        try:
            self._channel = await self._process.fork(fork_server, self.arguments, segments)
        except BaseException:
            self.abandon()
            raise
        self._forked_at = time.monotonic()
        self._loop.add_reader(self._channel.fileno(), self._on_readable)

    def abandon(self) -> None:
        """It was never forked, and will not be: give back what was made for it."""
        if self.state is not WorkerState.EXITED:
            self._answers.close()
            self._move(WorkerState.EXITED)

    def give(self, jobs: list[Job]) -> None:
        """Hand a batch over. The caller has made sure that the worker is serving."""
        self._next_batch_id += 1
        # Not for a batch that goes ahead: it could hold the room that the running one needs.
        usual = 0 if self.outstanding else self._usual_answer_bytes * len(jobs)
        grant = self._answers.slots.take(usual) if usual else None
        batch = Batch(self._next_batch_id, jobs, grant, time.monotonic(), len(jobs))
        for job in jobs:
            job.is_running = True
        self.outstanding.append(batch)
        if self.state is WorkerState.IDLE:
            self._move(WorkerState.BUSY)
        granted = (grant.offset, grant.size) if grant else (0, 0)
        try:
            self._send(pack_batch(batch.id, granted, jobs))
        except (OSError, ProtocolError) as error:
            # Its pidfd tells the rest: the jobs go to another worker.
            self.kill(f"it does not take notices: {error}")

    def stop(self, grace_s: float) -> None:
        """Let it finish what it has, then end it; killed if that takes longer than `grace_s`."""
        if self.state is WorkerState.EXITED:
            return
        self._process.kill_after(grace_s, "it did not stop in time")
        if self.state is WorkerState.STOPPING:
            return
        self.was_told_to_stop = True
        self._move(WorkerState.STOPPING)
        if self._channel is not None:
            try:
                self._send(pack_notice(NoticeKind.STOP))
            except OSError as error:
                self._log.debug("the worker is already going: %s", error)

    def kill(self, reason: str) -> None:
        """End the process now."""
        self._process.kill(reason)

    def end_hung(self) -> None:
        """It overran its limit."""
        self._process.end_hung()

    def _move(self, new: WorkerState) -> None:
        assert new in MOVES[self.state], f"worker {self.number}: {self.state} -> {new}"
        self.state = new

    def _send(self, notice: bytes) -> None:
        if self._channel is None:
            raise BrokenPipeError("the channel is closed")
        send_notice(self._channel, notice)

    def _on_readable(self) -> None:
        try:
            if not self._read_notice() and self._channel is not None:
                self._loop.remove_reader(self._channel.fileno())
        except BlockingIOError:
            return
        except (OSError, ProtocolError) as error:
            if self._channel is not None:
                self._loop.remove_reader(self._channel.fileno())
            self.kill(f"its notice is not believed: {error}")

    def _read_notice(self) -> bool:
        """Take one notice; False at end of file."""
        if self._channel is None:
            return False
        notice = receive_notice(self._channel)
        if notice:
            header = unpack_header(notice)
            handle = self._NOTICES.get(header.kind)
            if handle is None:
                raise ProtocolError(f"a worker must not send {header.kind.name}")
            handle(self, header, notice)
        return bool(notice)

    def _on_answers(self, header: Header, notice: bytes) -> None:
        batch = self.outstanding[0] if self.outstanding else None
        if batch is None or header.batch_id != batch.id or header.rows != len(batch.jobs):
            raise ProtocolError("answers to a batch that is not running")
        granted = (batch.grant.offset, batch.grant.size) if batch.grant else (0, 0)
        entries = unpack_answers(notice, header.rows, self._view, granted)
        if [entry.job_id for entry in entries] != [job.id for job in batch.jobs]:
            raise ProtocolError("answers to other jobs than those of the batch")
        self.outstanding.popleft()
        self.batches += 1
        if not self.outstanding and self.state is WorkerState.BUSY:
            self._move(WorkerState.IDLE)
        if self.outstanding:
            # The next one begins now, not when it was sent ahead.
            self.outstanding[0].sent_at = time.monotonic()
        shared = [len(e.body) + len(e.head) + SLOT_PADDING for e in entries if e.is_shared]
        self._usual_answer_bytes = max(shared, default=0)
        for entry, job in zip(entries, batch.jobs, strict=True):
            try:
                self._deliver(batch, job, entry)
            except Exception:  # noqa: BLE001 (a bug of ours must not cost the others their answers)
                self._log.exception("an answer could not be delivered")
        self._events.on_answers(self, batch)

    def _deliver(self, batch: Batch, job: Job, entry: AnswerEntry) -> None:
        if job.slot is not None:
            self._events.give_back_slot(job.slot)
            job.slot = None
        is_shared = entry.is_shared and len(entry.body) >= COPIED_BYTES
        if job.is_done or not is_shared:
            self._count_read(batch)
        if job.is_done:
            return
        job.is_done = True
        if entry.outcome is not Outcome.OK:
            job.finish(job, self._error(job, entry))
            return
        body = entry.body if is_shared else bytes(entry.body)
        release = (lambda: self._count_read(batch)) if is_shared else None
        job.finish(job, JobAnswer(entry.status, entry.head, body, release))

    def _count_read(self, batch: Batch) -> None:
        batch.unread -= 1
        if batch.unread == 0 and batch.grant is not None:
            self._answers.give_back(batch.grant)
            batch.grant = None

    def _error(self, job: Job, entry: AnswerEntry) -> TsdError:
        text = bytes(entry.body).decode(errors="replace")
        if entry.outcome is Outcome.REFUSED:
            return PredictionRefused(text, entry.status)
        if entry.outcome is Outcome.BAD_OUTPUT:
            return BadOutput(text)
        if text:
            request_id = unpack_fields(job.head)[0].decode("latin-1")
            self._log.error(
                "handler raised\n%s", text, request_id=request_id, code="handler_raised"
            )
        if entry.outcome is Outcome.OUT_OF_MEMORY:
            return OutOfResources("Out of resources")
        return HandlerRaised("Prediction failed")

    def _on_need(self, header: Header, _notice: bytes) -> None:
        """The granted slot is too small for the answers: find a larger one, or say that none is."""
        batch = self.outstanding[0] if self.outstanding else None
        if batch is None or header.batch_id != batch.id:
            raise ProtocolError("a need for a batch that is not running")
        if batch.has_asked:
            raise ProtocolError("a second need of one batch")
        batch.has_asked = batch.is_waiting = True
        if batch.grant is not None:
            self._answers.give_back(batch.grant)
            batch.grant = None
        deadline = min(job.deadline for job in batch.jobs)
        self._answers.take(header.first, deadline, lambda slot: self._grant(batch, slot))

    def _grant(self, batch: Batch, slot: Slot | None) -> None:
        if self.state is WorkerState.EXITED or self._channel is None:
            return
        batch.grant, batch.is_waiting, batch.sent_at = slot, False, time.monotonic()
        place = (slot.offset, slot.size) if slot else (0, 0)
        try:
            self._send(pack_notice(NoticeKind.GRANT, batch.id, *place))
        except OSError as error:
            self.kill(f"it does not take notices: {error}")

    def _on_phase(self, _header: Header, notice: bytes) -> None:
        if self.state not in (WorkerState.STARTING, WorkerState.STOPPING):
            raise ProtocolError("a phase of a worker that is ready")
        self.phase = unpack_text(notice)[:32]
        self._events.on_phase(self)

    def _on_ready(self, _header: Header, _notice: bytes) -> None:
        if self.state is WorkerState.STOPPING:
            return
        if self.state is not WorkerState.STARTING:
            raise ProtocolError("ready twice")
        self.phase = "ready"
        self.was_ready = True
        self.ready_after_s = time.monotonic() - self.asked_at
        self._move(WorkerState.IDLE)
        self._log.info("worker ready in %.0f ms", self.ready_after_s * 1000, code="worker_ready")
        self._events.on_ready(self)

    def _on_failed(self, _header: Header, notice: bytes) -> None:
        self.traceback = unpack_text(notice)

    def _on_exit(self, how: str) -> None:
        self.exit_text = how
        self._read_last_notices()
        if self._channel is not None:
            self._loop.remove_reader(self._channel.fileno())
            self._channel.close()
            self._channel = None
        self._answers.close()
        self._move(WorkerState.EXITED)
        batches = list(self.outstanding)
        self.outstanding.clear()
        for batch in batches:
            batch.grant = None
        self._events.on_exit(self, batches)

    def _read_last_notices(self) -> None:
        """What it said before it died still counts."""
        try:
            while self._read_notice():
                pass
        except (OSError, ProtocolError) as error:
            if not isinstance(error, BlockingIOError):
                self._log.warning("its last notice is not believed: %s", error)

    _NOTICES: ClassVar = {
        NoticeKind.ANSWERS: _on_answers,
        NoticeKind.NEED: _on_need,
        NoticeKind.PHASE: _on_phase,
        NoticeKind.READY: _on_ready,
        NoticeKind.FAILED: _on_failed,
    }
