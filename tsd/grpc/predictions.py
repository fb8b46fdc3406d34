"""One prediction: what was asked becomes a job, and its answer comes back piece by piece."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import dataclass

from tsd.api.predictions import NO_WORKER
from tsd.errors import AnswerTooLarge, MissingName, NoWorkers, QueueFull, SlowClient, TsdError
from tsd.ipc.layout import pack_fields
from tsd.serving.job import AnswerPart
from tsd.serving.model import Model
from tsd.serving.registry import Registry
from tsd.serving.submission import JobAnswer, Submission, Told

Pairs = tuple[tuple[bytes, bytes], ...]


@dataclass(frozen=True, slots=True)
class Asked:
    """What a client asks of a model: the fields of the head block, and the body.

    `version`: None for the default one; `time_s`: how long the client waits, None if for ever."""

    model_name: str
    version: str | None
    fields: Pairs
    body: bytes
    time_s: float | None = None
    sequence: str | None = None


class Predictions:
    """Asks the models, for all services."""

    def __init__(self, registry: Registry, max_answer_bytes: int) -> None:
        self._registry = registry
        self._max_answer_bytes = max_answer_bytes

    def find(self, name: str, version: str, what: str = "model_name") -> Model:
        """The model that a message names; an empty version is the default one."""
        if not name:
            raise MissingName(f"Parameter {what} is required.")
        return self._registry.find(name, version or None)

    async def answer(self, asked: Asked) -> bytes:
        """The whole answer; where the handler gives it in pieces, these are joined."""
        answer = bytearray()
        async with aclosing(self.pieces(asked)) as pieces:
            async for piece in pieces:
                answer += piece
                if len(answer) > self._max_answer_bytes:
                    raise AnswerTooLarge("The answer is larger than this server allows.")
        return bytes(answer)

    async def pieces(self, asked: Asked) -> AsyncGenerator[bytes]:
        """The answer as it comes. Left early, the job is cancelled."""
        model = self.find(asked.model_name, asked.version or "")
        if model.description.is_stateful and asked.sequence is None:
            raise MissingName("Parameter sequence_id is required.")
        began_at = time.monotonic()
        figures = model.figures
        figures.count_asked(asked.version)
        coming = _Coming(model.stream_buffer_bytes)
        submission = _submission(model, asked, coming)
        try:
            submission.start()
            while (piece := await coming.next()) is not None:
                yield piece
        except TsdError as error:
            figures.count_error(error.code)
            raise _with_torchserves_words(error, asked) from error
        finally:
            submission.cancel()
            figures.requests += 1
            figures.latency_s.observe(time.monotonic() - began_at)


class _Coming:
    """What has come and was not taken yet: at most `room` bytes before the last piece."""

    def __init__(self, room: int) -> None:
        self._room = room
        self._queue: asyncio.Queue[bytes | TsdError | None] = asyncio.Queue()

    async def next(self) -> bytes | None:
        """The next piece, None after the last one."""
        piece = await self._queue.get()
        if isinstance(piece, TsdError):
            raise piece
        self._room += len(piece or b"")
        return piece

    def on_part(self, part: AnswerPart) -> None:
        """A piece before the last one."""
        self._put(part.body)
        if self._room < 0:
            self._queue.put_nowait(SlowClient("The client reads the answer too slowly."))

    def on_end(self, outcome: JobAnswer | TsdError) -> None:
        """The last piece, or the error in its place."""
        if isinstance(outcome, TsdError):
            self._queue.put_nowait(outcome)
            return
        self._put(bytes(outcome.body))
        self._queue.put_nowait(None)
        if outcome.release is not None:
            outcome.release()

    def _put(self, piece: bytes) -> None:
        self._room -= len(piece)
        self._queue.put_nowait(piece)


def _submission(model: Model, asked: Asked, coming: _Coming) -> Submission:
    time_s = model.default_deadline_s
    if asked.time_s is not None:
        time_s = min(time_s, asked.time_s)
    told = Told(coming.on_end, coming.on_part)
    submission = Submission(model, pack_fields(asked.fields), asked.body, time_s, told)
    submission.sequence = asked.sequence
    return submission


def _with_torchserves_words(error: TsdError, asked: Asked) -> TsdError:
    if not isinstance(error, NoWorkers | QueueFull):
        return error
    version = f'Version {asked.version}" ' if asked.version else ""
    return type(error)(NO_WORKER.format(name=asked.model_name, version=version))
