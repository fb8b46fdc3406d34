"""TorchServe's inference service: what a message becomes."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Sequence
from typing import Any, cast

import grpc.aio
import pytest

from tsd.errors import BadRequest, Draining, HandlerRaised
from tsd.grpc.calls import Call
from tsd.grpc.inference import Inference
from tsd.grpc.predictions import Asked, Predictions
from tsd.grpc.protos.inference_pb2 import InputsInOrder, PredictionResponse, PredictionsRequest
from tsd.settings import ServingSettings


class Answers:
    """Stands for the models: keeps what was asked; `bad` fails."""

    def __init__(self) -> None:
        self.asked: list[Asked] = []

    async def pieces(self, asked: Asked) -> AsyncGenerator[bytes]:
        self.asked.append(asked)
        if asked.model_name == "bad":
            raise HandlerRaised("Prediction failed")
        yield b"one"
        yield b"two"


class Client:
    """A call: `said` is read, what is written is kept; then it says no more, or nothing."""

    def __init__(self, said: Sequence[InputsInOrder], *, falls_silent: bool = False) -> None:
        self._said = list(said)
        self._falls_silent = falls_silent
        self.told: list[PredictionResponse] = []

    async def read(self) -> object:
        if self._said:
            return self._said.pop(0)
        if self._falls_silent:
            await asyncio.get_running_loop().create_future()
        return grpc.aio.EOF

    async def write(self, answer: PredictionResponse) -> None:
        self.told.append(answer)

    def time_remaining(self) -> float:
        return 7.0


def message(**fields: Any) -> InputsInOrder:
    """As it comes from a client, who knows the inputs as a map."""
    return InputsInOrder.FromString(PredictionsRequest(**fields).SerializeToString())


def converse(client: Client, *, is_closing: bool = False) -> Answers:
    answers = Answers()

    async def run() -> None:
        closing = asyncio.Event()
        if is_closing:
            asyncio.get_running_loop().call_soon(closing.set)
        service = Inference(cast(Predictions, answers), ServingSettings(), lambda: True, closing)
        await service.converse(None, cast(Call, client))

    asyncio.run(run())
    return answers


def stream(request: InputsInOrder) -> tuple[Asked, list[bytes]]:
    client, answers = Client([]), Answers()
    service = Inference(
        cast(Predictions, answers), ServingSettings(), lambda: True, asyncio.Event()
    )
    asyncio.run(service.stream(request, cast(Call, client)))
    return answers.asked[0], [answer.prediction for answer in client.told]


def test_inputs_become_fields_with_lengths_and_one_body() -> None:
    request = InputsInOrder(
        model_name="m",
        input=[
            InputsInOrder.Input(name="z", value=b"123"),
            InputsInOrder.Input(name="é", value=b""),
            InputsInOrder.Input(name="a", value=b"45"),
        ],
    )
    asked, pieces = stream(request)
    assert asked == Asked(
        "m", None, ((b"<z", b"3"), ("<é".encode(), b"0"), (b"<a", b"2")), b"12345", 7.0, None
    )
    assert pieces == [b"one", b"two"]


def test_a_version_and_a_sequence_are_handed_on() -> None:
    asked, _ = stream(message(model_name="m", model_version="2", sequence_id="s"))
    assert (asked.version, asked.sequence) == ("2", "s")
    # As in TorchServe: only a conversation tells the handler of its sequence.
    assert asked.fields == ((b"<", b"0"),)


@pytest.mark.parametrize("fields", [{"input": {"a\0b": b""}}, {"sequence_id": "a\0b"}])
def test_nul_parts_fields_and_is_refused(fields: dict[str, Any]) -> None:
    with pytest.raises(BadRequest):
        stream(message(model_name="m", **fields))


def test_a_conversation_goes_on_behind_an_error() -> None:
    client = Client(
        [
            message(model_name="bad", sequence_id="s"),
            message(model_name="m"),
            message(model_name="m", sequence_id="s", input={"ts_request_sequence_end": b"TRUE"}),
        ]
    )
    answers = converse(client)
    failed, nameless, *good = client.told
    assert (failed.status.code, failed.status.message) == (14, "Prediction failed")
    assert (nameless.status.code, nameless.status.message) == (
        13,
        "Parameter sequenceId is required.",
    )
    assert nameless.status.details[0].value == b"\n\x16BadRequestException.()"
    assert [answer.prediction for answer in good] == [b"one", b"two"]
    assert not any(answer.HasField("sequence_id") for answer in good)
    assert answers.asked[-1].fields[1:] == (
        (b"ts_request_sequence_id", b"s"),
        (b"ts_request_sequence_end", b"true"),
    )


def test_a_sequence_that_begins_is_given_an_id() -> None:
    start = {"ts_request_sequence_start": b"true"}
    client = Client([message(model_name="m", input=start)])
    asked = converse(client).asked[0]
    assert asked.sequence is not None
    assert asked.sequence.startswith("ts-seq-")
    assert asked.fields[1:] == (
        (b"ts_request_sequence_id", asked.sequence.encode()),
        (b"ts_request_sequence_start", b"true"),
    )
    assert {answer.sequence_id for answer in client.told} == {asked.sequence}


def test_a_silent_client_does_not_hold_up_the_stop() -> None:
    with pytest.raises(Draining):
        converse(
            Client([message(model_name="m", sequence_id="s")], falls_silent=True), is_closing=True
        )
