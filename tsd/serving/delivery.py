"""The answers of one worker become the outcomes of jobs.

Large ones stay in the worker's answer segment until they have been sent; their slot comes back
when the last of its batch has been read."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from tsd.errors import (
    AnswerTooLarge,
    BadOutput,
    HandlerRaised,
    OutOfResources,
    PredictionRefused,
    ProtocolError,
    TsdError,
)
from tsd.ipc.layout import AnswerEntry, Outcome
from tsd.ipc.segment import Slot
from tsd.serving.arena import Arena
from tsd.serving.job import AnswerPart, Batch, Job, request_ids

# Below this an answer is copied out of the segment and joined with its headers in one write.
COPIED_BYTES = 262_144


class Delivery:
    """Each job gets its outcome, its slots go back, whatever becomes of the others."""

    def __init__(self, log: Any, answers: Arena, give_back_slot: Callable[[Slot], None]) -> None:
        self._log = log
        self._answers = answers
        self._give_back_slot = give_back_slot

    def deliver(self, batch: Batch, entries: Sequence[AnswerEntry]) -> None:
        """The answers to all jobs of a batch, in their order."""
        for entry, job in zip(entries, batch.jobs, strict=True):
            try:
                self._deliver_one(batch, job, entry)
            except Exception:  # noqa: BLE001 (a bug of ours must not cost the others their answers)
                self._log.exception("an answer could not be delivered")

    def deliver_bodies(self, batch: Batch, bodies: Sequence[bytes]) -> None:
        """The same for answers that are nothing but small bodies: most are."""
        self._give_grant_back(batch)
        for body, job in zip(bodies, batch.jobs, strict=True):
            if job.slot is not None:
                self._give_back_slot(job.slot)
                job.slot = None
            if job.is_done:
                continue
            job.is_done = True
            batch.answered.append(job)
            try:
                job.answered(body)
            except Exception:  # noqa: BLE001 (as above)
                self._log.exception("an answer could not be delivered")

    def deliver_parts(self, batch: Batch, entries: Sequence[AnswerEntry]) -> None:
        """Pieces of the answers to some jobs of a batch."""
        jobs = {job.id: job for job in batch.jobs}
        for entry in entries:
            job = jobs.get(entry.job_id)
            if job is None or entry.outcome is not Outcome.OK:
                raise ProtocolError("a piece of an answer to no job of the batch")
            job.has_begun = True
            if not job.is_done:
                job.part_came(AnswerPart(entry.status, entry.head, bytes(entry.body)))

    def _deliver_one(self, batch: Batch, job: Job, entry: AnswerEntry) -> None:
        if job.slot is not None:
            self._give_back_slot(job.slot)
            job.slot = None
        is_answer = entry.outcome is Outcome.OK
        is_shared = is_answer and entry.is_shared and len(entry.body) >= COPIED_BYTES
        if job.is_done or not is_shared:
            self._count_read(batch)
        if job.is_done:
            return
        job.is_done = True
        if not is_answer:
            job.failed(self._error(batch, job, entry))
            return
        batch.answered.append(job)
        body = entry.body if is_shared else bytes(entry.body)
        release = (lambda: self._count_read(batch)) if is_shared else None
        if job.on_head is not None:
            job.on_head(entry.head)
        job.answered(body, entry.status, entry.head, release)

    def _count_read(self, batch: Batch) -> None:
        batch.unread -= 1
        if batch.unread == 0:
            self._give_grant_back(batch)

    def _give_grant_back(self, batch: Batch) -> None:
        if batch.grant is not None:
            self._answers.give_back(batch.grant)
            batch.grant = None

    def _error(self, batch: Batch, job: Job, entry: AnswerEntry) -> TsdError:
        text = bytes(entry.body).decode(errors="replace")
        if entry.outcome is Outcome.REFUSED:
            return PredictionRefused(text, entry.status)
        if entry.outcome is Outcome.BAD_OUTPUT:
            self._tell_unusable(job, text)
            return BadOutput(text)
        if entry.outcome is Outcome.TOO_LARGE:
            self._tell_unusable(job, "it is larger than allowed")
            return AnswerTooLarge("Worker died.", why="the answer is larger than allowed")
        # The traceback of a batch comes once.
        if text or len(batch.jobs) == 1:
            about = {"request_id": request_ids(batch.jobs), "exception": text or None}
            self._log.error("handler raised", **about, code="handler_raised")
        if entry.outcome is Outcome.OUT_OF_MEMORY:
            return OutOfResources("Out of resources")
        return HandlerRaised("Prediction failed")

    def _tell_unusable(self, job: Job, why: str) -> None:
        text = "a handler's answer cannot be sent: %s"
        self._log.error(text, why, request_id=request_ids([job]), code="bad_output")
