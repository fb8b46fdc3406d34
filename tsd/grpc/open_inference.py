"""The Open Inference Protocol as TorchServe serves it: GRPCInferenceService.

A request becomes the JSON of the protocol's HTTP form, which the handler gets as its body; what
the handler returns is read as such JSON. The same methods stand under two package names."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TypeVar

from tsd.errors import BadRequest
from tsd.grpc.calls import Call, Rpc
from tsd.grpc.predictions import Asked, Predictions
from tsd.grpc.protos.open_inference_pb2 import (
    ModelInferRequest,
    ModelInferResponse,
    ModelMetadataRequest,
    ModelMetadataResponse,
    ModelReadyRequest,
    ModelReadyResponse,
    ServerLiveRequest,
    ServerLiveResponse,
    ServerMetadataRequest,
    ServerMetadataResponse,
    ServerReadyRequest,
    ServerReadyResponse,
)
from tsd.grpc.statuses import of_change, of_prediction
from tsd.grpc.tensors import request_json, response_message
from tsd.serving.registry import Registry
from tsd.version import own_version

NAME = "org.pytorch.serve.grpc.openinference.GRPCInferenceService"
STANDARD_NAME = "inference.GRPCInferenceService"

# Up to here a message is translated on the loop: it takes about a millisecond.
SMALL_BYTES = 4_096

Input = TypeVar("Input")
Output = TypeVar("Output")


class OpenInference:
    """The methods; `rpcs` is their table."""

    def __init__(self, registry: Registry, predictions: Predictions) -> None:
        self._registry = registry
        self._predictions = predictions

    @property
    def rpcs(self) -> dict[str, Rpc]:
        """Method -> what it reads, and who answers."""
        return {
            "ServerLive": Rpc(ServerLiveRequest, self.live, of_change),
            "ServerReady": Rpc(ServerReadyRequest, self.ready, of_change),
            "ServerMetadata": Rpc(ServerMetadataRequest, self.metadata, of_change),
            "ModelReady": Rpc(ModelReadyRequest, self.model_ready, of_change),
            "ModelMetadata": Rpc(ModelMetadataRequest, self.model_metadata, of_change),
            "ModelInfer": Rpc(ModelInferRequest, self.infer, of_prediction),
        }

    async def live(self, _request: ServerLiveRequest, _call: Call) -> ServerLiveResponse:
        """The loop turns."""
        return ServerLiveResponse(live=True)

    async def ready(self, _request: ServerReadyRequest, _call: Call) -> ServerReadyResponse:
        """Always, as in TorchServe: models are asked about one by one."""
        return ServerReadyResponse(ready=True)

    async def metadata(
        self, _request: ServerMetadataRequest, _call: Call
    ) -> ServerMetadataResponse:
        """Name and version of this server."""
        return ServerMetadataResponse(name="tsd", version=own_version())

    async def model_ready(self, request: ModelReadyRequest, _call: Call) -> ModelReadyResponse:
        """Whether the model has the workers that it should have."""
        model = self._predictions.find(request.name, request.version, "name")
        return ModelReadyResponse(ready=model.pool.serving >= model.min_workers)

    async def model_metadata(
        self, request: ModelMetadataRequest, _call: Call
    ) -> ModelMetadataResponse:
        """Name and versions; what its tensors are only the handler knows."""
        model = self._predictions.find(request.name, request.version)
        versions = [one.version for one in self._registry.versions(model.name)]
        return ModelMetadataResponse(name=model.name, versions=versions)

    async def infer(self, request: ModelInferRequest, call: Call) -> ModelInferResponse:
        """One inference."""
        self._predictions.find(request.model_name, request.model_version)
        if request.raw_input_contents:
            raise BadRequest("raw_input_contents is not supported: send contents.")
        body = await _off_the_loop(request_json, request, request.ByteSize())
        answer = await self._predictions.answer(
            Asked(
                request.model_name,
                request.model_version or None,
                ((b"content-type", b"application/json"),),
                body,
                call.time_remaining(),
            )
        )
        return await _off_the_loop(response_message, answer, len(answer))


async def _off_the_loop(
    translate: Callable[[Input], Output], message: Input, message_bytes: int
) -> Output:
    """Large messages are translated on another thread."""
    if message_bytes <= SMALL_BYTES:
        return translate(message)
    return await asyncio.to_thread(translate, message)
