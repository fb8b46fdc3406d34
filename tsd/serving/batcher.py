"""Jobs wait here, in order and bounded, and leave as batches.

Work-conserving: a free worker is given what waits as soon as one turn of the loop has added
nothing to the queue, or the batch is full. Which worker is pool.py's choice."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass

from tsd.errors import QueueFull
from tsd.serving.job import Job


@dataclass(frozen=True, slots=True)
class BatchLimits:
    """How many rows a batch may have, how long its oldest job may wait for more, how many wait."""

    max_rows: int
    max_wait_s: float
    max_waiting: int


def leaves_at(oldest: Job, rows: int, limits: BatchLimits) -> float:
    """When the batch that `oldest` waits in should leave, full or not."""
    if rows >= limits.max_rows or oldest.is_alone:
        return oldest.queued_at
    return min(oldest.queued_at + limits.max_wait_s, oldest.deadline)


class Batcher:
    """The waiting jobs of one model. `give(jobs)` hands a batch to a worker.

    `room(is_full, is_alone)`: how many jobs a worker would take now; 0 where none is free, or where
    the batch must be full to be taken ahead of need. `is_alone`: as of the first job."""

    def __init__(
        self,
        limits: BatchLimits,
        room: Callable[[bool, bool], int],
        give: Callable[[list[Job]], None],
        loop: asyncio.AbstractEventLoop,
    ) -> None:
        self.limits = limits
        self.waiting: deque[Job] = deque()
        self._room = room
        self._give = give
        self._loop = loop
        self._seen = 0
        self._is_turning = False
        self._timer: asyncio.TimerHandle | None = None

    def submit(self, job: Job) -> None:
        """Put the job behind the others; QueueFull when too many wait."""
        if len(self.waiting) >= self.limits.max_waiting and self._is_full():
            raise QueueFull(
                f"{len(self.waiting)} jobs wait, the limit is {self.limits.max_waiting}"
            )
        self.waiting.append(job)
        if not self._is_turning:
            self.wake()

    def requeue(self, jobs: Iterable[Job]) -> None:
        """Put jobs of a dead worker in front of all others, in their order; beyond the bound."""
        self.waiting.extendleft(reversed(list(jobs)))
        self.wake()

    def finished(self, job: Job) -> None:
        """A worker has answered the job; nothing waits for that here."""

    def forget_worker(self, _worker: object) -> list[Job]:
        """The worker is gone; nothing that waits here is its own."""
        return []

    def sweep(self, now: float) -> None:
        """Nothing here passes by itself: deadlines are the model's."""

    def remove(self, job: Job) -> None:
        """Nobody waits for that job any more."""
        # Clients that go together have come together: theirs stand in front.
        with suppress(ValueError):
            self.waiting.remove(job)

    def remove_done(self) -> None:
        """Forget jobs that got their outcome while they waited."""
        self.waiting = deque(job for job in self.waiting if not job.is_done)

    def wake(self) -> None:
        """Something changed: a job came, or a worker is free. Look again in the next turn."""
        if not self._is_turning:
            self._is_turning = True
            self._seen = len(self.waiting)
            self._loop.call_soon(self._turn)

    def _is_full(self) -> bool:
        """Jobs that a free worker is about to get wait for company, not for a worker."""
        leaving = self._room(False, False)  # noqa: FBT003
        return len(self.waiting) >= self.limits.max_waiting + leaving

    def _turn(self) -> None:
        waiting = len(self.waiting)
        if self._seen < waiting < self.limits.max_rows:
            self._seen = waiting
            self._loop.call_soon(self._turn)
            return
        self._is_turning = False
        while self.waiting and (room := self._leaving()):
            jobs = self._form(room)
            if jobs:
                self._give(jobs)

    def _leaving(self) -> int:
        """How many jobs go now, at most; if time alone is missing, a timer is set."""
        rows = len(self.waiting)
        # Of those in front that have got their outcome nothing is said.
        while self.waiting and self.waiting[0].is_done:
            self.waiting.popleft()
        if not self.waiting:
            return 0
        room = self._room(rows >= self.limits.max_rows, self.waiting[0].is_alone)
        # A worker that has begun with others already is not waited with.
        if self.limits.max_wait_s and room >= self.limits.max_rows:
            due = leaves_at(self.waiting[0], rows, self.limits)
            if due > time.monotonic():
                self._wake_at(due)
                return 0
        return room

    def _wake_at(self, instant: float) -> None:
        if self._timer is None:
            self._timer = self._loop.call_at(instant, self._on_timer)

    def _on_timer(self) -> None:
        self._timer = None
        self.wake()

    def _form(self, room: int) -> list[Job]:
        """The next batch: up to `room` jobs, or one that must travel alone."""
        waiting, jobs = self.waiting, list[Job]()
        most = min(room, self.limits.max_rows)
        while waiting and len(jobs) < most:
            if waiting[0].is_alone and jobs:
                break
            job = waiting.popleft()
            if job.is_done:
                continue
            jobs.append(job)
            if job.is_alone:
                break
        return jobs
