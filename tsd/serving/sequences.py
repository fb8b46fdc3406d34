"""Stateful sequences: requests that belong together go to one worker, in order, one at a time.

A sequence begins with its first request and holds a place on a worker until it is ended, has been
idle for too long, or its worker dies: what the handler kept for it is gone then. Stands in a
model in place of batcher.py."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Protocol

from tsd.errors import BadRequest, QueueFull
from tsd.ipc.layout import unpack_fields
from tsd.models.description import SequenceSettings
from tsd.serving.batcher import BatchLimits, leaves_at
from tsd.serving.job import Job
from tsd.serving.worker_handle import WorkerHandle

# A request for the model's description is of no sequence: it has this name, goes alone to any
# worker, and takes no place there.
DESCRIPTION_SEQUENCE = "tsd-description"


class Workers(Protocol):
    """What is needed of the model's pool."""

    def free_workers(self) -> list[tuple[WorkerHandle, int]]: ...
    def give_to(self, worker: WorkerHandle, jobs: list[Job]) -> None: ...


@dataclass(slots=True)
class Sequence:
    """The requests of one sequence that wait, and the one that runs."""

    id: str
    began_at: float
    used_at: float
    worker: WorkerHandle | None = None
    running: Job | None = None
    waiting: deque[Job] = field(default_factory=deque)

    @property
    def takes_place(self) -> bool:
        """Whether its worker keeps something for it."""
        return self.id != DESCRIPTION_SEQUENCE

    def is_over(self, now: float, settings: SequenceSettings) -> bool:
        """Whether its place is free again."""
        if self.running or self.waiting:
            return False
        has_idled = now - self.used_at >= settings.idle_s
        return has_idled or 0 < settings.life_s <= now - self.began_at


class SequenceBatcher:
    """Batches with at most one request of each sequence, for the worker that has them."""

    def __init__(
        self,
        limits: BatchLimits,
        settings: SequenceSettings,
        end_header: bytes,
        workers: Workers,
        loop: asyncio.AbstractEventLoop,
    ) -> None:
        self.limits = limits
        self._settings = settings
        # The header, in small letters, by which an answer ends sequences; empty: none does.
        self._end_header = end_header
        self._workers = workers
        self._loop = loop
        self._sequences: dict[str, Sequence] = {}
        self._is_turning = False
        self._timer: asyncio.TimerHandle | None = None

    @property
    def waiting(self) -> list[Job]:
        """The jobs that no worker has yet."""
        return [job for sequence in self._sequences.values() for job in sequence.waiting]

    def submit(self, job: Job) -> None:
        """Put the job behind the others of its sequence; QueueFull where there is no place."""
        if job.sequence is None:
            raise BadRequest("The request belongs to no sequence.")
        now = time.monotonic()
        sequence = self._sequences.get(job.sequence)
        if sequence is None:
            sequence = self._begin(job.sequence, now)
        elif len(sequence.waiting) >= self._settings.queue_size:
            raise QueueFull(f"{len(sequence.waiting)} requests of the sequence wait")
        job.queued_at = sequence.used_at = now
        if self._end_header:
            job.on_head = self._on_head
        sequence.waiting.append(job)
        self.wake()

    def _begin(self, name: str, now: float) -> Sequence:
        self.sweep(now)
        sequence = Sequence(name, now, now)
        begun = sum(other.takes_place for other in self._sequences.values())
        if sequence.takes_place and begun >= self._settings.max_sequences:
            raise QueueFull(f"{begun} sequences are open, no more are allowed")
        self._sequences[name] = sequence
        return sequence

    def requeue(self, jobs: Iterable[Job]) -> None:
        """Jobs that their worker had not begun; their sequences died with it and begin anew."""
        for job in jobs:
            self.submit(job)

    def remove(self, job: Job) -> None:
        """Nobody waits for that job any more."""
        sequence = self._sequences.get(job.sequence or "")
        if sequence is not None and job in sequence.waiting:
            sequence.waiting.remove(job)

    def remove_done(self) -> None:
        """Forget jobs that got their outcome while they waited."""
        for sequence in self._sequences.values():
            if any(job.is_done for job in sequence.waiting):
                sequence.waiting = deque(job for job in sequence.waiting if not job.is_done)

    def finished(self, job: Job) -> None:
        """A worker has answered: the next one of the sequence may go."""
        sequence = self._sequences.get(job.sequence or "")
        if sequence is not None and sequence.running is job:
            sequence.running = None
            sequence.used_at = time.monotonic()
            if not sequence.takes_place:
                self.end([sequence.id])

    def _on_head(self, head: bytes) -> None:
        """Before the answer goes on: see which sequences it ends."""
        said = {name.lower(): value for name, value in unpack_fields(head)[1]}
        self.end(said.get(self._end_header, b"").decode("latin-1").split(";"))

    def end(self, names: Iterable[str]) -> None:
        """The handler has ended these sequences: their places are free, unless more waits."""
        for name in names:
            sequence = self._sequences.get(name)
            if sequence is not None and not sequence.waiting:
                del self._sequences[name]

    def forget_worker(self, worker: WorkerHandle) -> list[Job]:
        """The worker is gone, and with it the state of its sequences; the jobs that waited."""
        lost = [s for s in self._sequences.values() if s.worker is worker]
        for sequence in lost:
            del self._sequences[sequence.id]
        return [job for sequence in lost for job in sequence.waiting]

    def sweep(self, now: float) -> None:
        """Free the places of sequences that are over; others may wait for them."""
        over = [n for n, s in self._sequences.items() if s.is_over(now, self._settings)]
        for name in over:
            del self._sequences[name]
        if over:
            self.wake()

    def wake(self) -> None:
        """Something changed: look again in the next turn of the loop."""
        if not self._is_turning:
            self._is_turning = True
            self._loop.call_soon(self._turn)

    def _turn(self) -> None:
        self._is_turning = False
        now = time.monotonic()
        # Those with the fewest sequences take new ones first.
        for worker, room in sorted(self._workers.free_workers(), key=lambda w: self._held(w[0])):
            ready = self._ready_for(worker)[:room]
            if ready and self._is_due(ready, room, now):
                self._give(worker, ready)

    def _held(self, worker: WorkerHandle) -> int:
        return sum(s.worker is worker and s.takes_place for s in self._sequences.values())

    def _ready_for(self, worker: WorkerHandle) -> list[Sequence]:
        """Its own sequences with something to run, and new ones as far as it has places."""
        ready = [s for s in self._sequences.values() if s.waiting and s.running is None]
        alone = [sequence for sequence in ready if not sequence.takes_place]
        if alone:
            return alone
        own = [sequence for sequence in ready if sequence.worker is worker]
        new = [sequence for sequence in ready if sequence.worker is None]
        return own + new[: max(0, self.limits.max_rows - self._held(worker))]

    def _is_due(self, ready: list[Sequence], room: int, now: float) -> bool:
        """Whether the batch goes now; if time alone is missing, a timer is set."""
        oldest = min((s.waiting[0] for s in ready), key=lambda job: job.queued_at)
        due = leaves_at(oldest, len(ready), self.limits)
        if not self.limits.max_wait_s or due <= now or room < self.limits.max_rows:
            return True
        if self._timer is None:
            self._timer = self._loop.call_at(due, self._on_timer)
        return False

    def _on_timer(self) -> None:
        self._timer = None
        self.wake()

    def _give(self, worker: WorkerHandle, sequences: list[Sequence]) -> None:
        jobs = []
        for sequence in sequences:
            job = sequence.waiting.popleft()
            sequence.worker, sequence.running = worker, job
            jobs.append(job)
        self._workers.give_to(worker, jobs)
