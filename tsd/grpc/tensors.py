"""Open Inference messages as JSON, and back: as TorchServe's handlers read and write it."""

from __future__ import annotations

import json
import struct
from base64 import b64encode
from collections.abc import Callable, Sequence
from typing import Any

import msgspec

from tsd.errors import BadOutput, BadRequest
from tsd.grpc.protos.open_inference_pb2 import (
    InferTensorContents,
    ModelInferRequest,
    ModelInferResponse,
)

# A thread lets the loop go on between two such slices, but not within one.
SLICE = 1_024
FLOAT = struct.Struct("<f")
FEWEST_DIGITS = (7, 8)

FIELDS = {
    "BOOL": "bool_contents",
    "INT8": "int_contents",
    "INT16": "int_contents",
    "INT32": "int_contents",
    "INT64": "int64_contents",
    "UINT8": "uint_contents",
    "UINT16": "uint_contents",
    "UINT32": "uint_contents",
    "UINT64": "uint64_contents",
    "FP32": "fp32_contents",
    "FP64": "fp64_contents",
    "BYTES": "bytes_contents",
}
"""Where the elements of each data type are."""


Text = str | int | float


class OutputTensor(msgspec.Struct):
    """One output as a handler returns it."""

    name: str
    datatype: str
    shape: list[int]
    data: list[Any]


class InferAnswer(msgspec.Struct):
    """What a handler returns."""

    model_name: str
    model_version: Text
    outputs: list[OutputTensor]
    id: Text | None = None


def request_json(request: ModelInferRequest) -> bytes:
    """The body for the handler; members in TorchServe's order."""
    inputs = ", ".join(_input_json(tensor) for tensor in request.inputs)
    name, given_id = json.dumps(request.model_name), json.dumps(request.id)
    return f'{{"model_name": {name}, "inputs": [{inputs}], "id": {given_id}}}'.encode()


def response_message(answer: bytes) -> ModelInferResponse:
    """The message for what the handler returned; BadOutput where that is something else."""
    try:
        said = msgspec.convert(_parsed(answer), InferAnswer)
        outputs = [
            ModelInferResponse.InferOutputTensor(
                name=tensor.name,
                datatype=tensor.datatype,
                shape=tensor.shape,
                contents=_contents(tensor),
            )
            for tensor in said.outputs
        ]
        return ModelInferResponse(
            model_name=said.model_name,
            model_version=str(said.model_version),
            id="" if said.id is None else str(said.id),
            outputs=outputs,
        )
    except (KeyError, TypeError, ValueError, OverflowError, RecursionError) as error:
        text = "The handler did not return an Open Inference response."
        raise BadOutput(text, why=str(error)) from error


def shortest(value: float) -> float:
    """The number of fewest digits that is this one as a 32-bit float: 0.1 and not 0.10000000149."""
    for digits in FEWEST_DIGITS:
        near = float(f"{value:.{digits}g}")
        if FLOAT.pack(near) == FLOAT.pack(value):
            return near
    return value


def _input_json(tensor: ModelInferRequest.InferInputTensor) -> str:
    field = FIELDS.get(tensor.datatype)
    if field is None:
        raise BadRequest(f"Unknown datatype of input {tensor.name}: {tensor.datatype}")
    elements: Sequence[Any] = getattr(tensor.contents, field)
    to_json = TO_JSON.get(tensor.datatype)
    slices = []
    for first in range(0, len(elements), SLICE):
        part = elements[first : first + SLICE]
        slices.append(json.dumps([to_json(one) for one in part] if to_json else list(part))[1:-1])
    shape, data = json.dumps(list(tensor.shape)), ", ".join(slices)
    kind, name = json.dumps(tensor.datatype), json.dumps(tensor.name)
    return f'{{"shape": {shape}, "data": [{data}], "datatype": {kind}, "name": {name}}}'


def _parsed(answer: bytes) -> object:
    try:
        return msgspec.json.decode(answer)
    except msgspec.DecodeError:
        # NaN and Infinity, which are no JSON, are written and read by Python only. It is slower.
        return json.loads(answer)


def _base64(element: bytes) -> str:
    return b64encode(element).decode()


def _text(element: object) -> bytes:
    """A text as it is; anything else as JSON."""
    return (element if isinstance(element, str) else json.dumps(element)).encode()


def _contents(tensor: OutputTensor) -> InferTensorContents:
    field = FIELDS[tensor.datatype]
    from_json = FROM_JSON.get(tensor.datatype, int)
    elements: Any = [from_json(element) for element in tensor.data]
    return InferTensorContents(**{field: elements})


TO_JSON: dict[str, Callable[[Any], object]] = {"BYTES": _base64, "FP32": shortest}
FROM_JSON: dict[str, Callable[[Any], object]] = {
    "BOOL": bool,
    "FP32": float,
    "FP64": float,
    "BYTES": _text,
}
