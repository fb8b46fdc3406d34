"""The daemon's side of one worker: its states, its batches, its answer segment.

Slots are reclaimed by its answers, or when it is gone. No number that the worker wrote is
believed. Its process is in worker_process.py, or several in worker_group.py; its answers become
outcomes in delivery.py; who gets a batch, and what becomes of a dead one's jobs, is in pool.py."""

from __future__ import annotations

import enum
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import ClassVar

from tsd.errors import ProtocolError
from tsd.ipc.arguments import WorkerArguments
from tsd.ipc.layout import (
    BODY_ALIGNMENT,
    Header,
    NoticeKind,
    pack_batch,
    pack_notice,
    unpack_answers,
    unpack_bodies,
    unpack_text,
)
from tsd.ipc.segment import Slot
from tsd.log import get_logger
from tsd.process import ExitStatus
from tsd.serving.arena import Arena
from tsd.serving.delivery import Delivery
from tsd.serving.fork_server import ForkServer
from tsd.serving.job import Batch, Job, request_ids
from tsd.serving.worker_group import WorkerGroup
from tsd.serving.worker_process import WorkerProcess
from tsd.settings import LogSettings

SLOT_PADDING = 2 * BODY_ALIGNMENT

log = get_logger()


class WorkerState(enum.StrEnum):
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
    # A line of what the handler measured.
    on_metric: Callable[[str], None]


class WorkerHandle:
    """One worker, from the wish for it to its last descriptor closed."""

    def __init__(
        self,
        arguments: WorkerArguments,
        request_arena: Arena,
        log_settings: LogSettings,
        events: WorkerEvents,
    ) -> None:
        self.arguments = arguments
        self.number = arguments.number
        self.state = WorkerState.STARTING
        self.phase = "queued"
        self.asked_at = time.monotonic()
        self.ready_after_s: float | None = None
        self.started_at = datetime.now(UTC)
        self.batches = 0
        # By id, the running one first; where jobs overlap, each is a batch and all are running.
        self.outstanding: dict[int, Batch] = {}
        self.overlaps = arguments.mode != "batch"
        # Whether the second one has begun, too: then it may be what ends the worker.
        self.launches_ahead = False
        self.exit_text = ""
        self.traceback = ""
        # What it says that it holds of its GPUs, by kind; nothing where it has touched none.
        self.gpu_bytes: dict[str, int] = {}
        # What it ran when it ended.
        self.last_request_ids = ""
        self.was_ready = False
        self.was_told_to_stop = False
        self._request_arena = request_arena
        self.about = {
            "model": arguments.model_name,
            "version": arguments.model_version,
            "worker": self.number,
        }
        self._log = log.bind(**self.about)
        self._events = events
        self._process = self._make_process(log_settings)
        self._answers = Arena(
            f"tsd answers {self.number}",
            arguments.answers_bytes,
            idle_s=request_arena.idle_s,
            **self.about,
        )
        self._view = self._answers.segment.map_to_read()
        self._delivery = Delivery(self._log, self._answers, events.give_back_slot)
        self._usual_answer_bytes = 0
        self._next_batch_id = 0
        self._forked_at = 0.0

    def _make_process(self, log_settings: LogSettings) -> WorkerProcess | WorkerGroup:
        ranks = self.arguments.ranks
        if ranks:
            return WorkerGroup(ranks, self._log, log_settings, self._on_notice, self._on_exit)
        return WorkerProcess(self._log, log_settings, self._on_notice, self._on_exit)

    @property
    def pids(self) -> tuple[int, ...]:
        """All its processes; a worker is one, unless it is divided."""
        return self._process.pids

    @property
    def pid(self) -> int:
        """Its process id; 0 until it is forked."""
        return self._process.pid

    @property
    def exit_status(self) -> ExitStatus:
        """How its process ended."""
        return self._process.exit_status

    @property
    def is_serving(self) -> bool:
        """Whether it may get batches."""
        return self.state in (WorkerState.IDLE, WorkerState.BUSY)

    @property
    def running(self) -> list[Batch]:
        """The batch that runs now; where jobs overlap, all of them."""
        batches = list(self.outstanding.values())
        return batches if self.overlaps else batches[:1]

    @property
    def takes_ahead(self) -> bool:
        """Whether it may have a second batch: not where one that is tried alone would not be."""
        if len(self.outstanding) != 1:
            return False
        return not (self.launches_ahead and self.running[0].jobs[0].is_alone)

    def overdue(self, now: float, limit_s: float) -> list[Batch]:
        """What runs, or has given no piece of its answer, for longer; unless it waits for room."""
        return [b for b in self.running if not b.is_waiting and now - b.sent_at > limit_s]

    def sweep(self, now: float) -> None:
        """Answers for which there is no room until the deadline are refused."""
        self._answers.sweep(now)

    def starts_since(self, now: float) -> float:
        """Seconds since it was forked, while it is not ready yet; else 0."""
        return now - self._forked_at if self.state is WorkerState.STARTING and self.pid else 0.0

    async def start(self, fork_server: ForkServer) -> None:
        """Have the process forked and watch it. Raises StartFailed, then nothing is left."""
        segments = (self._request_arena.segment.fd, self._answers.segment.fd)
        try:
            await self._process.fork(fork_server, self.arguments, segments)
        except BaseException:
            self.abandon()
            raise
        self._forked_at = time.monotonic()

    def abandon(self) -> None:
        """It was never forked, and will not be: give back what was made for it."""
        if self.state is not WorkerState.EXITED:
            self._answers.close()
            self._move(WorkerState.EXITED)

    def give(self, jobs: list[Job]) -> None:
        """Hand a batch over. The caller has made sure that the worker is serving."""
        for job in jobs:
            job.is_running = True
        if self.state is WorkerState.IDLE:
            self._move(WorkerState.BUSY)
        if self.overlaps:
            self._give_each(jobs)
        else:
            self._give_together(jobs)

    def cancel(self, job: Job) -> None:
        """Nobody waits for the job's answer any more; where jobs overlap, it ends at once."""
        if self.overlaps and job.id in self.outstanding:
            self._tell(pack_notice(NoticeKind.CANCEL, job.id))

    def _give_each(self, jobs: list[Job]) -> None:
        """In one notice, but each a batch of its own, with the job's id."""
        now = time.monotonic()
        for job in jobs:
            self.outstanding[job.id] = Batch(job.id, [job], None, now, unread=1)
        self._tell(pack_batch(0, (0, 0), jobs))

    def _give_together(self, jobs: list[Job]) -> None:
        self._next_batch_id += 1
        # Not for a batch that goes ahead: it could hold the room that the running one needs.
        usual = 0 if self.outstanding else self._usual_answer_bytes * len(jobs)
        grant = self._answers.take_now(usual) if usual else None
        batch = Batch(self._next_batch_id, jobs, grant, time.monotonic(), unread=len(jobs))
        self.outstanding[batch.id] = batch
        granted = (grant.offset, grant.size) if grant else (0, 0)
        self._tell(pack_batch(batch.id, granted, jobs))

    def _tell(self, notice: bytes) -> None:
        try:
            self._process.send(notice)
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
        try:
            self._process.send(pack_notice(NoticeKind.STOP))
        except OSError as error:
            self._log.debug("the worker is already going, or not there yet: %s", error)

    def kill(self, reason: str) -> None:
        """End it now."""
        self._process.kill(reason)

    def end_hung(self) -> None:
        """It overran its limit."""
        self._process.end_hung(self._running_ids())

    def _move(self, new: WorkerState) -> None:
        assert new in MOVES[self.state], f"worker {self.number}: {self.state} -> {new}"
        self.state = new

    def _on_notice(self, header: Header, notice: bytes) -> None:
        handle = self._NOTICES.get(header.kind)
        if handle is None:
            raise ProtocolError(f"a worker must not send {header.kind.name}")
        handle(self, header, notice)

    def _running_batch(self, header: Header) -> Batch:
        """The batch that a notice speaks of; it must be running."""
        batch = self.outstanding.get(header.batch_id)
        is_first = batch is next(iter(self.outstanding.values()), None)
        if batch is None or not (is_first or self.overlaps):
            raise ProtocolError("a notice about a batch that is not running")
        return batch

    def _on_answers(self, header: Header, notice: bytes) -> None:
        batch = self._running_batch(header)
        granted = (batch.grant.offset, batch.grant.size) if batch.grant else (0, 0)
        entries = unpack_answers(notice, header.rows, self._view, granted)
        if [entry.job_id for entry in entries] != [job.id for job in batch.jobs]:
            raise ProtocolError("answers to other jobs than those of the batch")
        self._end(batch)
        shared = [len(e.body) + len(e.head) + SLOT_PADDING for e in entries if e.is_shared]
        self._usual_answer_bytes = max(shared, default=0)
        self._delivery.deliver(batch, entries)
        self._events.on_answers(self, batch)

    def _on_bodies(self, header: Header, notice: bytes) -> None:
        batch = self._running_batch(header)
        bodies = unpack_bodies(notice, header.rows)
        if len(bodies) != len(batch.jobs):
            raise ProtocolError("answers to some jobs of a batch only")
        self._end(batch)
        self._usual_answer_bytes = 0
        self._delivery.deliver_bodies(batch, bodies)
        self._events.on_answers(self, batch)

    def _end(self, batch: Batch) -> None:
        """It is answered; the next one begins."""
        batch.answered_at = time.monotonic()
        del self.outstanding[batch.id]
        self.batches += 1
        if not self.outstanding and self.state is WorkerState.BUSY:
            self._move(WorkerState.IDLE)
        if self.outstanding and not self.overlaps:
            # The next one begins now, not when it was sent ahead.
            self.running[0].sent_at = batch.answered_at

    def _on_parts(self, header: Header, notice: bytes) -> None:
        batch = self._running_batch(header)
        entries = unpack_answers(notice, header.rows, self._view, (0, 0))
        self._delivery.deliver_parts(batch, entries)
        # The limit of a response runs between pieces.
        batch.sent_at = time.monotonic()

    def _on_metrics(self, _header: Header, notice: bytes) -> None:
        for line in unpack_text(notice).splitlines():
            self._events.on_metric(line)

    def _on_memory(self, header: Header, _notice: bytes) -> None:
        self.gpu_bytes = {"allocated": header.first, "reserved": header.second}

    def _on_need(self, header: Header, _notice: bytes) -> None:
        """The granted slot is too small for the answers: find a larger one, or say that none is."""
        batch = self._running_batch(header)
        if batch.has_asked:
            raise ProtocolError("a second need of one batch")
        batch.has_asked = batch.is_waiting = True
        if batch.grant is not None:
            self._answers.give_back(batch.grant)
            batch.grant = None
        deadline = min(job.deadline for job in batch.jobs)
        self._answers.take(header.first, deadline, lambda slot: self._grant(batch, slot))

    def _grant(self, batch: Batch, slot: Slot | None) -> None:
        if self.state is WorkerState.EXITED:
            return
        batch.grant, batch.is_waiting, batch.sent_at = slot, False, time.monotonic()
        place = (slot.offset, slot.size) if slot else (0, 0)
        self._tell(pack_notice(NoticeKind.GRANT, batch.id, *place))

    def _on_phase(self, _header: Header, notice: bytes) -> None:
        if self.state not in (WorkerState.STARTING, WorkerState.STOPPING):
            raise ProtocolError("a phase of a worker that is ready")
        self.phase = unpack_text(notice)[:32]
        self._events.on_phase(self)

    def _on_ready(self, header: Header, _notice: bytes) -> None:
        if self.state is WorkerState.STOPPING:
            return
        if self.state is not WorkerState.STARTING:
            raise ProtocolError("ready twice")
        self.phase = "ready"
        self.launches_ahead = header.first == 1
        self.was_ready = True
        self.ready_after_s = time.monotonic() - self.asked_at
        self._move(WorkerState.IDLE)
        self._log.info("worker ready in %.0f ms", self.ready_after_s * 1000, code="worker_ready")
        self._events.on_ready(self)

    def _running_ids(self) -> str:
        begun = self.outstanding.values() if self.launches_ahead else self.running
        return request_ids(job for batch in begun for job in batch.jobs)

    def _on_failed(self, _header: Header, notice: bytes) -> None:
        self.traceback = unpack_text(notice)

    def _on_exit(self, how: str) -> None:
        self.exit_text = how
        self.last_request_ids = self._running_ids()
        self._answers.close()
        self._move(WorkerState.EXITED)
        batches = list(self.outstanding.values())
        self.outstanding.clear()
        for batch in batches:
            batch.grant = None
        self._events.on_exit(self, batches)

    _NOTICES: ClassVar = {
        NoticeKind.ANSWERS: _on_answers,
        NoticeKind.BODIES: _on_bodies,
        NoticeKind.PARTS: _on_parts,
        NoticeKind.METRICS: _on_metrics,
        NoticeKind.MEMORY: _on_memory,
        NoticeKind.NEED: _on_need,
        NoticeKind.PHASE: _on_phase,
        NoticeKind.READY: _on_ready,
        NoticeKind.FAILED: _on_failed,
    }
