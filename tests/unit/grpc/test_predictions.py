"""One prediction by gRPC: from what was asked to a job, and its answer piece by piece."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar, cast

import pytest

from tsd.errors import (
    AnswerTooLarge,
    HandlerRaised,
    MissingName,
    NoWorkers,
    SlowClient,
    TsdError,
)
from tsd.grpc.predictions import Asked, Predictions
from tsd.ipc.layout import unpack_pairs
from tsd.metrics import ModelFigures
from tsd.serving.job import AnswerPart, Job
from tsd.serving.model import Model
from tsd.serving.registry import Registry

Outcome = TypeVar("Outcome")
ASKED = Asked("m", None, ((b"<data", b"1"),), b"x")


class Description:
    is_stateful = False


class StandIn:
    """What is needed of a model; `play` is given each job that is submitted."""

    name = "m"
    inline_bytes = 4_000
    default_deadline_s = 30.0
    stream_buffer_bytes = 10

    def __init__(self, play: Callable[[Job], None]) -> None:
        self.description = Description()
        self.figures = ModelFigures()
        self.cancelled: list[Job] = []
        self.jobs: list[Job] = []
        self.trouble: TsdError | None = None
        self._play = play

    def check_open(self) -> None:
        if self.trouble is not None:
            raise self.trouble

    def submit(self, job: Job) -> None:
        self.jobs.append(job)
        self._play(job)

    def cancel(self, job: Job) -> None:
        if not job.is_done:
            self.cancelled.append(job)


class OneModel:
    """A registry with one model."""

    def __init__(self, model: StandIn) -> None:
        self._model = model

    def find(self, _name: str, _version: str | None) -> Model:
        return cast(Model, self._model)


def say(job: Job, *pieces: bytes) -> None:
    for piece in pieces:
        job.part_came(AnswerPart(200, b"", piece))


def end(job: Job, outcome: bytes | TsdError) -> None:
    job.is_done = True
    if isinstance(outcome, TsdError):
        job.failed(outcome)
    else:
        job.answered(outcome)


def answering(*pieces: bytes, last: bytes) -> Callable[[Job], None]:
    def play(job: Job) -> None:
        say(job, *pieces)
        end(job, last)

    return play


def predictions(model: StandIn, max_answer_bytes: int = 1_000) -> Predictions:
    return Predictions(cast(Registry, OneModel(model)), max_answer_bytes)


async def taken(model: StandIn, asked: Asked = ASKED) -> list[bytes]:
    return [piece async for piece in predictions(model).pieces(asked)]


def run(work: Coroutine[Any, Any, Outcome]) -> Outcome:
    return asyncio.run(work)


def test_pieces_come_in_order_the_last_one_too() -> None:
    model = StandIn(answering(b"a", b"b", last=b""))
    assert run(taken(model)) == [b"a", b"b", b""]
    assert model.cancelled == []
    assert model.figures.requests == 1


def test_one_answer_is_all_pieces_joined() -> None:
    model = StandIn(answering(b"a", b"b", last=b"c"))
    assert run(predictions(model).answer(ASKED)) == b"abc"


def test_a_joined_answer_has_a_bound() -> None:
    model = StandIn(answering(b"a", b"b", last=b"c"))
    with pytest.raises(AnswerTooLarge):
        run(predictions(model, max_answer_bytes=2).answer(ASKED))


def test_shared_memory_is_given_back_when_its_bytes_are_taken() -> None:
    given_back: list[str] = []

    def play(job: Job) -> None:
        shared = memoryview(bytearray(b"shared"))
        job.is_done = True
        job.answered(shared, release=lambda: given_back.append("slot"))

    assert run(taken(StandIn(play))) == [b"shared"]
    assert given_back == ["slot"]


def test_the_job_has_the_fields_and_the_clients_deadline() -> None:
    model = StandIn(answering(last=b""))
    asked = Asked("m", "1.0", ((b"<data", b"1"),), b"x", time_s=5.0, sequence="s")
    before = time.monotonic()
    run(taken(model, asked))
    (job,) = model.jobs
    assert unpack_pairs(job.fields) == [(b"<data", b"1")]
    assert (bytes(job.body), job.sequence) == (b"x", "s")
    assert before + 5.0 <= job.deadline <= time.monotonic() + 5.0
    assert model.figures.asked["1.0"].requests == 1


def test_the_models_deadline_is_the_longest() -> None:
    model = StandIn(answering(last=b""))
    run(taken(model, Asked("m", None, (), b"", time_s=1e9)))
    assert model.jobs[0].deadline <= time.monotonic() + model.default_deadline_s


def test_an_error_ends_the_pieces_and_is_counted() -> None:
    def play(job: Job) -> None:
        say(job, b"a")
        end(job, HandlerRaised("Prediction failed"))

    model = StandIn(play)
    with pytest.raises(HandlerRaised):
        run(taken(model))
    assert model.figures.errors == {"handler_raised": 1}


def test_no_worker_is_said_in_torchserves_words() -> None:
    model = StandIn(answering(last=b""))
    model.trouble = NoWorkers("none")
    with pytest.raises(NoWorkers, match='Model "m" Version 2" has no worker'):
        run(taken(model, Asked("m", "2", (), b"")))
    assert model.jobs == []


def test_a_client_that_reads_too_slowly_loses_the_rest() -> None:
    def play(job: Job) -> None:
        say(job, b"12345", b"67890", b"1")

    model = StandIn(play)
    with pytest.raises(SlowClient):
        run(taken(model))
    assert model.cancelled == model.jobs


def test_what_was_read_makes_room() -> None:
    async def read_while_it_comes() -> bytes:
        model = StandIn(lambda job: say(job, b"1234567890"))
        pieces = predictions(model).pieces(ASKED)
        first = await anext(pieces)
        say(model.jobs[0], b"1234567890")
        end(model.jobs[0], b"end")
        return first + b"".join([piece async for piece in pieces])

    assert run(read_while_it_comes()) == b"12345678901234567890end"


def test_a_cancelled_call_cancels_its_job() -> None:
    async def cancel() -> StandIn:
        model = StandIn(lambda _job: None)
        asking = asyncio.ensure_future(predictions(model).answer(ASKED))
        await asyncio.sleep(0)
        asking.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asking
        return model

    model = run(cancel())
    assert model.cancelled == model.jobs != []


def test_a_name_is_needed_and_for_a_stateful_model_a_sequence() -> None:
    model = StandIn(answering(last=b""))
    model.description.is_stateful = True
    with pytest.raises(MissingName, match="Parameter sequence_id is required"):
        run(taken(model))
    with pytest.raises(MissingName, match="Parameter name is required"):
        predictions(model).find("", "", "name")
