"""TorchServe's inference service: InferenceAPIsService."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import aclosing
from uuid import uuid4

import grpc.aio
from google.protobuf.any_pb2 import Any as AnyMessage
from google.protobuf.empty_pb2 import Empty

from tsd.api.answers import json_text
from tsd.errors import BadRequest, Draining, MissingName, TsdError
from tsd.grpc.calls import Call, Rpc
from tsd.grpc.predictions import Asked, Predictions
from tsd.grpc.protos.inference_pb2 import (
    ErrorInfo,
    InputsInOrder,
    PredictionResponse,
    Status,
    TorchServeHealthResponse,
)
from tsd.grpc.statuses import of_prediction, reason
from tsd.ipc.layout import INPUT, NO_INPUTS
from tsd.settings import ServingSettings

NAME = "org.pytorch.serve.grpc.inference.InferenceAPIsService"
ERROR_INFO_URL = "type.googleapis.com/google.rpc.ErrorInfo"


class Inference:
    """The methods; `rpcs` is their table. `closing` is set when the daemon stops."""

    def __init__(
        self,
        predictions: Predictions,
        serving: ServingSettings,
        is_healthy: Callable[[], bool],
        closing: asyncio.Event,
    ) -> None:
        self._predictions = predictions
        self._serving = serving
        self._is_healthy = is_healthy
        self._closing = closing

    @property
    def rpcs(self) -> dict[str, Rpc]:
        """Method -> what it reads, and who answers."""
        return {
            "Ping": Rpc(Empty, self.ping, of_prediction),
            "Predictions": Rpc(InputsInOrder, self.predict, of_prediction),
            "StreamPredictions": Rpc(InputsInOrder, self.stream, of_prediction, writes_stream=True),
            "StreamPredictions2": Rpc(
                InputsInOrder, self.converse, of_prediction, reads_stream=True, writes_stream=True
            ),
        }

    async def ping(self, _request: Empty, _call: Call) -> TorchServeHealthResponse:
        """TorchServe's health, as on the route."""
        word = "Healthy" if self._is_healthy() else "Unhealthy"
        return TorchServeHealthResponse(health=json_text({"status": word}))

    async def predict(self, request: InputsInOrder, call: Call) -> PredictionResponse:
        """One input, one answer."""
        answer = await self._predictions.answer(self._asked(request, call))
        return PredictionResponse(prediction=answer)

    async def stream(self, request: InputsInOrder, call: Call) -> None:
        """One input; the pieces of the answer as they come."""
        await self._write_pieces(self._asked(request, call), call)

    async def converse(self, _requests: object, call: Call) -> None:
        """The inputs of a sequence, one after the other, and their answers."""
        while (request := await self._next_request(call)) is not None:
            is_named = bool(request.sequence_id)
            try:
                asked = self._asked_in_sequence(request, call)
                await self._write_pieces(asked, call, None if is_named else asked.sequence)
            except TsdError as error:
                await call.write(PredictionResponse(status=_status(error)))

    async def _next_request(self, call: Call) -> InputsInOrder | None:
        """What the client says next, None when it has said all. A silent one ends no stop."""
        reading = asyncio.ensure_future(call.read())
        closing = asyncio.ensure_future(self._closing.wait())
        try:
            await asyncio.wait({reading, closing}, return_when=asyncio.FIRST_COMPLETED)
            if not reading.done():
                raise Draining("The server is stopping.")
        finally:
            closing.cancel()
            reading.cancel()
        request = reading.result()
        return None if request is grpc.aio.EOF else request

    async def _write_pieces(self, asked: Asked, call: Call, new_id: str | None = None) -> None:
        async with aclosing(self._predictions.pieces(asked)) as pieces:
            async for piece in pieces:
                await call.write(PredictionResponse(prediction=piece, sequence_id=new_id))

    def _asked_in_sequence(self, request: InputsInOrder, call: Call) -> Asked:
        """The same, with the headers of sequences: what HTTP has there, gRPC has in inputs."""
        names = self._serving
        flags = {one.name: one.value.lower() == b"true" for one in request.input}
        fields: list[tuple[bytes, bytes]] = []
        if not request.sequence_id:
            if not flags.get(names.sequence_start_header):
                raise MissingName("Parameter sequenceId is required.")
            request.sequence_id = f"ts-seq-{uuid4()}"
            fields.append((names.sequence_start_header.encode(), b"true"))
        if flags.get(names.sequence_end_header):
            fields.append((names.sequence_end_header.encode(), b"true"))
        name = names.sequence_id_header.encode()
        return self._asked(request, call, (name, _field(request.sequence_id)), *fields)

    def _asked(self, request: InputsInOrder, call: Call, *fields: tuple[bytes, bytes]) -> Asked:
        inputs = [(INPUT + _field(one.name), b"%d" % len(one.value)) for one in request.input]
        inputs = inputs or [(NO_INPUTS, b"0")]
        _field(request.sequence_id)
        return Asked(
            request.model_name,
            request.model_version or None,
            (*inputs, *fields),
            b"".join([one.value for one in request.input]),
            call.time_remaining(),
            request.sequence_id or None,
        )


def _field(text: str) -> bytes:
    """A part of the head block, whose fields NUL parts."""
    if "\0" in text:
        raise BadRequest("The name of an input, or a sequence's id, contains a NUL character.")
    return text.encode()


def _status(error: TsdError) -> Status:
    """An error as a message: the stream goes on behind it."""
    details = AnyMessage(
        type_url=ERROR_INFO_URL, value=ErrorInfo(reason=reason(error)).SerializeToString()
    )
    code, _ = of_prediction(error).code.value
    return Status(code=code, message=str(error), details=[details])
