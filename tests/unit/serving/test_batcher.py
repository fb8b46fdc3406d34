"""When waiting jobs leave, and with whom."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from typing import Any, cast

import pytest

from tsd.errors import QueueFull, TsdError
from tsd.serving.batcher import Batcher, BatchLimits, leaves_at
from tsd.serving.job import AnswerPart, Job
from tsd.serving.submission import JobAnswer


class FakeLoop:
    """The turns of a loop, made by hand."""

    def __init__(self) -> None:
        self.soon: list[Callable[[], None]] = []
        self.timers: list[Callable[[], None]] = []

    def call_soon(self, call: Callable[[], None]) -> None:
        self.soon.append(call)

    def call_at(self, _instant: float, call: Callable[[], None]) -> object:
        self.timers.append(call)
        return object()

    def turn(self) -> None:
        calls, self.soon = self.soon, []
        for call in calls:
            call()


class Scene:
    """A batcher with `free` workers; what it gave them is in `batches`."""

    def __init__(self, free: int = 1, rows: int = 4, wait_s: float = 0.0, bound: int = 10) -> None:
        self.loop, self.free, self.batches = FakeLoop(), free, list[list[int]]()
        self.ahead = 0
        self.rows = rows
        loop = cast(asyncio.AbstractEventLoop, self.loop)
        self.batcher = Batcher(BatchLimits(rows, wait_s, bound), self.room, self.give, loop)

    def room(self, is_full: bool, _is_alone: bool) -> int:  # noqa: FBT001
        return self.rows if self.free > 0 or (is_full and self.ahead > 0) else 0

    def give(self, jobs: list[Job]) -> None:
        if self.free:
            self.free -= 1
        else:
            self.ahead -= 1
        self.batches.append([job.id for job in jobs])

    def submit(self, *numbers: int) -> Sequence[Job]:
        jobs = [make_job(number) for number in numbers]
        for job in jobs:
            job.queued_at = time.monotonic()
            self.batcher.submit(job)
        return jobs


class KeptJob(Job):
    """A job that keeps what becomes of it."""

    def __init__(self) -> None:
        super().__init__(b"id", b"", b"", 0.0, 1e12)
        self.outcome: JobAnswer | TsdError | None = None
        self.parts: list[AnswerPart] = []

    def answered(
        self,
        body: bytes | memoryview,
        status: int = 200,
        head: bytes = b"",
        release: Callable[[], None] | None = None,
    ) -> None:
        self.outcome = JobAnswer(status, head, body, release)

    def failed(self, error: TsdError) -> None:
        self.outcome = error

    def part_came(self, part: AnswerPart) -> None:
        self.parts.append(part)


def make_job(number: int, **fields: Any) -> KeptJob:
    job = KeptJob()
    job.id = number
    for name, value in fields.items():
        setattr(job, name, value)
    return job


def test_a_lone_job_leaves_after_one_quiet_turn() -> None:
    scene = Scene()
    scene.submit(1)
    scene.loop.turn()
    assert scene.batches == [[1]]


def test_jobs_that_keep_coming_are_waited_for_until_the_batch_is_full() -> None:
    scene = Scene(rows=3)
    scene.submit(1)
    scene.submit(2)
    scene.loop.turn()
    assert scene.batches == []
    scene.submit(3)
    scene.loop.turn()
    assert scene.batches == [[1, 2, 3]]


def test_without_a_worker_jobs_wait_for_the_next_wake() -> None:
    scene = Scene(free=0)
    scene.submit(1, 2)
    for _ in range(3):
        scene.loop.turn()
    assert scene.batches == []
    scene.free = 1
    scene.batcher.wake()
    scene.loop.turn()
    assert scene.batches == [[1, 2]]


def test_only_a_full_batch_goes_ahead_of_a_free_worker() -> None:
    scene = Scene(free=0, rows=2)
    scene.ahead = 1
    scene.submit(1)
    scene.loop.turn()
    assert scene.batches == []
    scene.submit(2, 3)
    scene.loop.turn()
    scene.loop.turn()
    assert scene.batches == [[1, 2]]


def test_a_full_queue_refuses_at_once() -> None:
    scene = Scene(free=0, bound=2)
    scene.submit(1, 2)
    with pytest.raises(QueueFull, match="2 jobs wait, the limit is 2"):
        scene.submit(3)


def test_jobs_that_a_free_worker_is_about_to_get_do_not_count() -> None:
    scene = Scene(free=1, rows=4, bound=2)
    scene.submit(1, 2, 3, 4, 5, 6)
    with pytest.raises(QueueFull):
        scene.submit(7)
    for _ in range(3):
        scene.loop.turn()
    assert scene.batches == [[1, 2, 3, 4]]


def test_requeued_jobs_go_first_each_alone() -> None:
    scene = Scene(free=0)
    scene.submit(5, 6)
    scene.batcher.requeue([make_job(1, is_alone=True), make_job(2, is_alone=True)])
    scene.free = 3
    for _ in range(3):
        scene.loop.turn()
    assert scene.batches == [[1], [2], [5, 6]]


def test_an_alone_job_behind_others_does_not_join_them() -> None:
    scene = Scene(free=0)
    scene.submit(1)
    scene.batcher.waiting.append(make_job(2, is_alone=True))
    scene.free = 2
    scene.loop.turn()
    scene.loop.turn()
    assert scene.batches == [[1], [2]]


def test_a_job_that_has_its_outcome_is_not_run() -> None:
    scene = Scene(free=0)
    gone, stays = scene.submit(1, 2)
    gone.is_done = True
    scene.free = 1
    scene.loop.turn()
    scene.loop.turn()
    assert scene.batches == [[2]]
    stays.is_done = True
    scene.batcher.requeue([stays])
    scene.batcher.remove_done()
    assert not scene.batcher.waiting


def test_a_delay_that_was_asked_for_is_waited_for_from_the_oldest_job() -> None:
    scene = Scene(wait_s=1000.0)
    scene.submit(1)
    scene.loop.turn()
    assert scene.batches == []
    assert len(scene.loop.timers) == 1
    scene.batcher.waiting[0].queued_at -= 1000
    scene.loop.timers[0]()
    scene.loop.turn()
    assert scene.batches == [[1]]


def test_when_a_batch_leaves() -> None:
    limits = BatchLimits(max_rows=4, max_wait_s=2.0, max_waiting=9)
    job = make_job(1, queued_at=10.0, deadline=11.0)
    assert leaves_at(job, 4, limits) == 10.0
    assert leaves_at(job, 1, limits) == 11.0
    job.deadline = 20.0
    assert leaves_at(job, 1, limits) == 12.0
    job.is_alone = True
    assert leaves_at(job, 1, limits) == 10.0


def test_a_worker_with_jobs_gets_as_many_as_it_has_room_for_without_waiting() -> None:
    scene = Scene(rows=4, wait_s=60.0)
    scene.rows = 2
    scene.submit(1, 2, 3)
    scene.loop.turn()
    scene.loop.turn()
    assert scene.batches == [[1, 2]]
    assert not scene.loop.timers
