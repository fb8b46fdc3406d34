"""Answers of a worker become the outcomes of jobs, and its memory comes back."""

from __future__ import annotations

from typing import cast

from tests.unit.serving.test_batcher import make_job
from tsd.errors import PredictionRefused, TsdError
from tsd.ipc.layout import AnswerEntry, Outcome
from tsd.ipc.segment import SlotAllocator
from tsd.serving.arena import Arena
from tsd.serving.delivery import COPIED_BYTES, Delivery
from tsd.serving.job import Batch
from tsd.serving.submission import JobAnswer


def delivered(outcome: Outcome, slots: SlotAllocator) -> JobAnswer | TsdError:
    """What a job gets of a large answer, whose slot is one of `slots`."""
    job = make_job(1)
    batch = Batch(1, [job], slots.take(COPIED_BYTES), 0.0, unread=1)
    entry = AnswerEntry(1, outcome, 422, b"", memoryview(b"z" * COPIED_BYTES), is_shared=True)
    Delivery(None, cast(Arena, slots), lambda _slot: None).deliver(batch, [entry])
    assert job.outcome is not None
    return job.outcome


def test_a_large_answer_lies_where_it_is_until_it_has_been_sent() -> None:
    slots = SlotAllocator(1 << 20)
    answer = delivered(Outcome.OK, slots)
    assert isinstance(answer, JobAnswer)
    assert answer.release is not None
    assert slots.used_bytes == COPIED_BYTES
    answer.release()
    assert slots.used_bytes == 0


def test_a_large_refusal_is_read_at_once() -> None:
    slots = SlotAllocator(1 << 20)
    assert isinstance(delivered(Outcome.REFUSED, slots), PredictionRefused)
    assert slots.used_bytes == 0
