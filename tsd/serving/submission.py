"""A job from bytes that are at hand: for protocols whose bodies do not go straight into the arena.

HTTP's way, which receives bodies in place, is in api/predictions.py."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from uuid import uuid4

from tsd.errors import NoRoom, TsdError
from tsd.ipc.layout import NO_INPUTS, pack_fields, slot_bytes
from tsd.ipc.segment import Slot
from tsd.serving.job import AnswerPart, Job
from tsd.serving.model import Model
from tsd.serving.sequences import DESCRIPTION_SEQUENCE


@dataclass(frozen=True, slots=True)
class JobAnswer:
    """What the handler gave for one job; see `Job.answered`."""

    status: int
    head: bytes
    body: bytes | memoryview
    release: Callable[[], None] | None = None


@dataclass(frozen=True, slots=True)
class Told:
    """Who gets pieces of the answer, and how it ended: that once, perhaps at once."""

    on_end: Callable[[JobAnswer | TsdError], None]
    on_part: Callable[[AnswerPart], None] | None = None


class Submission(Job):
    """One job on its way."""

    __slots__ = ("_is_over", "_model", "_told")

    def __init__(self, model: Model, fields: bytes, body: bytes, time_s: float, told: Told) -> None:
        """`time_s`: how long its answer is waited for."""
        now = time.monotonic()
        super().__init__(str(uuid4()).encode("ascii"), fields, body, now, now + time_s)
        self._model = model
        self._told = told
        self._is_over = False

    def start(self) -> None:
        """Queue it, as soon as there is room for it."""
        model = self._model
        try:
            model.check_open()
        except TsdError as error:
            self.failed(error)
            return
        if self.inline_bytes <= model.inline_bytes:
            self._submit()
        else:
            size = slot_bytes(self.head_bytes, len(self.body))
            model.take_slot(size, self.deadline, self._on_room)

    def cancel(self) -> None:
        """Nobody waits for the answer any more; nobody is told of it."""
        self._is_over = True
        self._model.cancel(self)

    def answered(
        self,
        body: bytes | memoryview,
        status: int = 200,
        head: bytes = b"",
        release: Callable[[], None] | None = None,
    ) -> None:
        """As of every job."""
        self._end(JobAnswer(status, head, body, release))

    def failed(self, error: TsdError) -> None:
        """As of every job."""
        self._end(error)

    def part_came(self, part: AnswerPart) -> None:
        """As of every job."""
        if self._told.on_part is not None:
            self._told.on_part(part)

    def _on_room(self, slot: Slot | None) -> None:
        if slot is None:
            self._end(NoRoom("No room for the request's body."))
        elif self._is_over:
            self._model.arena.give_back(slot)
        else:
            body = self.body
            self.place(self._model.arena_view, slot, len(body))[:] = body
            self._submit()

    def _submit(self) -> None:
        self.queued_at = time.monotonic()
        try:
            self._model.submit(self)
        except TsdError as error:
            self._end(error)

    def _end(self, outcome: JobAnswer | TsdError) -> None:
        if not self._is_over:
            self._is_over = True
            self._told.on_end(outcome)


async def ask_for_description(
    model: Model, headers: Sequence[tuple[bytes, bytes]] = ()
) -> JobAnswer:
    """What the handler says of its model (TorchServe's `customized` metadata).

    Raises the TsdError that the job ended with."""
    ended: asyncio.Future[JobAnswer | TsdError] = asyncio.get_running_loop().create_future()
    fields = pack_fields([*headers, (b"describe", b"True"), (NO_INPUTS, b"0")])
    told = Told(ended.set_result)
    submission = Submission(model, fields, b"", model.default_deadline_s, told)
    submission.is_alone = True
    submission.sequence = DESCRIPTION_SEQUENCE
    submission.start()
    try:
        outcome = await ended
    except asyncio.CancelledError:
        submission.cancel()
        raise
    if isinstance(outcome, TsdError):
        raise outcome
    return outcome
