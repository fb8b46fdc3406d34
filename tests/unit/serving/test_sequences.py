"""Requests of one sequence go to one worker, in order, one at a time."""

from __future__ import annotations

import asyncio
from typing import cast

import pytest

from tests.unit.serving.test_batcher import FakeLoop, make_job
from tsd.errors import BadRequest, QueueFull
from tsd.models.description import SequenceSettings
from tsd.serving.batcher import BatchLimits
from tsd.serving.job import Job
from tsd.serving.sequences import DESCRIPTION_SEQUENCE, SequenceBatcher
from tsd.serving.worker_handle import WorkerHandle


class Scene:
    """A batcher with workers that are names; what they got is in `batches`, newest last."""

    def __init__(self, *workers: str, rows: int = 2, wait_s: float = 0.0, most: int = 3) -> None:
        self.loop, self.rows = FakeLoop(), rows
        self.free = list(workers)
        self.batches: list[tuple[str, list[int]]] = []
        settings = SequenceSettings(max_sequences=most, queue_size=2, idle_s=60.0, life_s=0.0)
        loop = cast(asyncio.AbstractEventLoop, self.loop)
        self.batcher = SequenceBatcher(BatchLimits(rows, wait_s, 10), settings, b"end", self, loop)

    def free_workers(self) -> list[tuple[WorkerHandle, int]]:
        return [(cast(WorkerHandle, name), self.rows) for name in self.free]

    def give_to(self, worker: WorkerHandle, jobs: list[Job]) -> None:
        self.free.remove(cast(str, worker))
        self.batches.append((cast(str, worker), [job.id for job in jobs]))

    def submit(self, number: int, sequence: str) -> Job:
        job = make_job(number, sequence=sequence)
        self.batcher.submit(job)
        return job

    def turn(self) -> list[tuple[str, list[int]]]:
        """What left in the next turn of the loop."""
        before = len(self.batches)
        self.loop.turn()
        return self.batches[before:]

    def finish(self, worker: str, *jobs: Job) -> None:
        for job in jobs:
            self.batcher.finished(job)
        self.free.append(worker)
        self.batcher.wake()


def test_a_batch_has_at_most_one_request_of_each_sequence() -> None:
    scene = Scene("w")
    first, other = scene.submit(1, "a"), scene.submit(2, "b")
    scene.submit(3, "a")
    assert scene.turn() == [("w", [1, 2])]
    scene.finish("w", first, other)
    assert scene.turn() == [("w", [3])]


def test_a_sequence_stays_with_its_worker() -> None:
    scene = Scene("w", "v", rows=1)
    first, second = scene.submit(1, "a"), scene.submit(2, "b")
    assert scene.turn() == [("w", [1]), ("v", [2])]
    scene.submit(3, "b")
    scene.finish("w", first)
    assert scene.turn() == []
    scene.finish("v", second)
    assert scene.turn() == [("v", [3])]


def test_a_worker_holds_no_more_sequences_than_a_batch_has_rows() -> None:
    scene = Scene("w", rows=1)
    first = scene.submit(1, "a")
    scene.turn()
    scene.submit(2, "b")
    scene.finish("w", first)
    assert scene.turn() == []
    scene.batcher.end(["a"])
    scene.batcher.wake()
    assert scene.turn() == [("w", [2])]


def test_too_many_sequences_and_too_many_requests_of_one_are_refused() -> None:
    scene = Scene(most=1)
    scene.submit(1, "a")
    with pytest.raises(QueueFull, match="1 sequences are open"):
        scene.submit(2, "b")
    scene.submit(3, "a")
    with pytest.raises(QueueFull, match="2 requests of the sequence wait"):
        scene.submit(4, "a")


def test_the_place_of_an_idle_sequence_is_free_again() -> None:
    scene = Scene("w", most=1)
    job = scene.submit(1, "a")
    scene.turn()
    scene.batcher.sweep(1e12)
    with pytest.raises(QueueFull):
        scene.submit(2, "b")
    scene.finish("w", job)
    scene.batcher.sweep(1e12)
    scene.submit(2, "b")
    assert scene.turn() == [("w", [2])]


def test_with_a_worker_its_sequences_are_lost() -> None:
    scene = Scene("w", "v")
    scene.submit(1, "a")
    waiting = scene.submit(2, "a")
    assert scene.turn() == [("w", [1])]
    assert scene.batcher.forget_worker(cast(WorkerHandle, "w")) == [waiting]
    assert scene.batcher.waiting == []


def test_a_delay_is_waited_for_company_and_not_beyond() -> None:
    scene = Scene("w", wait_s=60.0)
    scene.submit(1, "a")
    assert scene.turn() == []
    assert len(scene.loop.timers) == 1
    scene.submit(2, "b")
    assert scene.turn() == [("w", [1, 2])]


def test_requests_that_got_their_outcome_do_not_leave() -> None:
    scene = Scene("w")
    scene.submit(1, "a").is_done = True
    scene.batcher.remove_done()
    assert scene.turn() == []


def test_who_waits_for_a_place_has_it_when_time_frees_it() -> None:
    scene = Scene("w", rows=1)
    first = scene.submit(1, "a")
    scene.turn()
    scene.finish("w", first)
    scene.submit(2, "b")
    assert scene.turn() == []
    scene.batcher.sweep(1e12)
    assert scene.turn() == [("w", [2])]


def test_a_request_for_a_description_goes_alone_and_takes_no_place() -> None:
    scene = Scene("w", rows=1, most=1)
    first = scene.submit(1, "a")
    scene.turn()
    scene.finish("w", first)
    described = scene.submit(2, DESCRIPTION_SEQUENCE)
    scene.submit(3, "a")
    assert scene.turn() == [("w", [2])]
    scene.finish("w", described)
    assert scene.turn() == [("w", [3])]
    assert scene.batcher.waiting == []


def test_a_header_of_an_answer_ends_the_sequences_that_it_names() -> None:
    scene = Scene("w", most=2)
    job = scene.submit(1, "a")
    scene.submit(2, "b").is_done = True
    scene.batcher.remove_done()
    scene.turn()
    assert job.on_head is not None
    job.on_head(b"\0End\0a;b")
    scene.finish("w", job)
    # Both places are free again.
    scene.submit(3, "c")
    scene.submit(4, "d")


def test_a_request_of_no_sequence_is_refused() -> None:
    with pytest.raises(BadRequest):
        Scene("w").batcher.submit(make_job(1))
