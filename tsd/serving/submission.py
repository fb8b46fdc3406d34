"""A job from bytes that are at hand: for protocols whose bodies do not go straight into the arena.

HTTP's way, which receives bodies in place, is in api/predictions.py."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from itertools import count
from uuid import uuid4

from tsd.errors import NoRoom, TsdError
from tsd.ipc.layout import NO_INPUTS, pack_fields, slot_bytes, write_head
from tsd.ipc.segment import Slot
from tsd.serving.job import AnswerPart, Job, JobAnswer
from tsd.serving.model import Model
from tsd.serving.sequences import DESCRIPTION_SEQUENCE

job_ids = count(1)
"""Numbers for the jobs of this daemon, whatever door they came by."""


class Submission:
    """One job on its way. `on_end` is called once, perhaps before `start` returns."""

    def __init__(
        self,
        model: Model,
        head: bytes,
        body: bytes,
        deadline: float,
        on_part: Callable[[AnswerPart], None] | None,
        on_end: Callable[[JobAnswer | TsdError], None],
    ) -> None:
        self._model = model
        self._on_end = on_end
        self._is_over = False
        self.job = Job(next(job_ids), head, body, None, deadline, self._finish)
        if on_part is not None:
            self.job.on_part = lambda _job, part: on_part(part)

    def start(self) -> None:
        """Queue it, as soon as there is room for it."""
        model, job = self._model, self.job
        try:
            model.check_open()
        except TsdError as error:
            self._end(error)
            return
        if len(job.head) + len(job.body) <= model.inline_bytes:
            self._submit()
        else:
            size = slot_bytes(len(job.head), len(job.body))
            model.take_slot(size, job.deadline, self._on_room)

    def cancel(self) -> None:
        """Nobody waits for the answer any more; `on_end` is not called."""
        self._is_over = True
        self._model.cancel(self.job)

    def _on_room(self, slot: Slot | None) -> None:
        if slot is None:
            self._end(NoRoom("No room for the request's body."))
        elif self._is_over:
            self._model.arena.give_back(slot)
        else:
            self._place(slot)
            self._submit()

    def _place(self, slot: Slot) -> None:
        job = self.job
        room = write_head(self._model.arena_view, slot.offset, job.head, len(job.body))
        room[:] = job.body
        job.slot, job.body = slot, room

    def _submit(self) -> None:
        try:
            self._model.submit(self.job)
        except TsdError as error:
            self._end(error)

    def _finish(self, _job: Job, outcome: JobAnswer | TsdError) -> None:
        self._end(outcome)

    def _end(self, outcome: JobAnswer | TsdError) -> None:
        if not self._is_over:
            self._is_over = True
            self._on_end(outcome)


async def ask_for_description(
    model: Model, headers: Sequence[tuple[bytes, bytes]] = ()
) -> JobAnswer:
    """What the handler says of its model (TorchServe's `customized` metadata).

    Raises the TsdError that the job ended with."""
    ended: asyncio.Future[JobAnswer | TsdError] = asyncio.get_running_loop().create_future()
    head = pack_fields(
        str(uuid4()).encode("ascii"), [*headers, (b"describe", b"True"), (NO_INPUTS, b"0")]
    )
    deadline = time.monotonic() + model.default_deadline_s
    submission = Submission(model, head, b"", deadline, None, ended.set_result)
    submission.job.is_alone = True
    submission.job.sequence = DESCRIPTION_SEQUENCE
    submission.start()
    try:
        outcome = await ended
    except asyncio.CancelledError:
        submission.cancel()
        raise
    if isinstance(outcome, TsdError):
        raise outcome
    return outcome
