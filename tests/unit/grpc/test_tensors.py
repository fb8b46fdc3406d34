"""Open Inference messages as JSON, and back."""

from __future__ import annotations

import json
import math
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tsd.errors import BadOutput, BadRequest
from tsd.grpc.protos.open_inference_pb2 import InferTensorContents, ModelInferRequest
from tsd.grpc.tensors import SLICE, request_json, response_message, shortest

Tensor = ModelInferRequest.InferInputTensor


def as_float32(value: float) -> float:
    (rounded,) = struct.unpack("<f", struct.pack("<f", value))
    return float(rounded)


def test_the_json_is_torchserves_member_by_member() -> None:
    request = ModelInferRequest(
        model_name="oip",
        id="77",
        inputs=[
            Tensor(
                name="i",
                datatype="FP32",
                shape=[2],
                contents=InferTensorContents(fp32_contents=[1, 2]),
            ),
            Tensor(
                name='b"',
                datatype="BYTES",
                shape=[1],
                contents=InferTensorContents(bytes_contents=[b"hi"]),
            ),
        ],
    )
    assert request_json(request) == (
        b'{"model_name": "oip", "inputs": ['
        b'{"shape": [2], "data": [1.0, 2.0], "datatype": "FP32", "name": "i"}, '
        b'{"shape": [1], "data": ["aGk="], "datatype": "BYTES", "name": "b\\""}], "id": "77"}'
    )


@pytest.mark.parametrize("count", [0, 1, SLICE - 1, SLICE, SLICE + 1, 3 * SLICE])
def test_slices_are_joined_without_a_seam(count: int) -> None:
    elements = list(range(count))
    tensor = Tensor(
        datatype="INT64", shape=[count], contents=InferTensorContents(int64_contents=elements)
    )
    said = json.loads(request_json(ModelInferRequest(inputs=[tensor])))
    assert said["inputs"][0]["data"] == elements


def test_an_unknown_datatype_is_refused() -> None:
    with pytest.raises(BadRequest, match="Unknown datatype of input x: BF16"):
        request_json(ModelInferRequest(inputs=[Tensor(name="x", datatype="BF16")]))


@given(st.floats(width=32))
def test_the_shortest_number_is_the_same_32_bit_float(value: float) -> None:
    near = shortest(value)
    assert math.isnan(near) if math.isnan(value) else as_float32(near) == value


@given(st.integers(-99_999, 99_999), st.integers(-5, 5))
def test_a_number_of_few_digits_keeps_them(digits: int, exponent: int) -> None:
    value = float(f"{digits}e{exponent}")
    assert shortest(as_float32(value)) == value


def answer(**members: object) -> bytes:
    output = {"name": "o", "datatype": "BYTES", "shape": [1], "data": ["text"]}
    said = {"id": "7", "model_name": "m", "model_version": "1.0", "outputs": [output]}
    return json.dumps(said | members).encode()


def test_texts_come_back_without_quotes_and_other_things_as_json() -> None:
    data = ["text", 'with "quotes"', 5, {"a": 1}]
    output = {"name": "o", "datatype": "BYTES", "shape": [4], "data": data}
    message = response_message(answer(outputs=[output]))
    assert list(message.outputs[0].contents.bytes_contents) == [
        b"text",
        b'with "quotes"',
        b"5",
        b'{"a": 1}',
    ]


def test_numbers_for_texts_are_understood_and_an_id_may_be_missing() -> None:
    message = response_message(answer(id=None, model_version=1.5))
    assert (message.id, message.model_version) == ("", "1.5")


def test_numbers_that_json_lacks_come_back() -> None:
    data = [float("nan"), float("inf"), 1.5]
    output = {"name": "o", "datatype": "FP32", "shape": [3], "data": data}
    said = list(response_message(answer(outputs=[output])).outputs[0].contents.fp32_contents)
    assert math.isnan(said[0])
    assert said[1:] == [math.inf, 1.5]


@pytest.mark.parametrize(
    "bad",
    [
        b"",
        b"no json",
        b"[]",
        b"{}",
        answer(outputs=7),
        answer(outputs=[{"name": "o"}]),
        answer(outputs=[{"name": "o", "datatype": "FP8", "shape": [], "data": []}]),
        answer(outputs=[{"name": "o", "datatype": "FP32", "shape": [1], "data": ["x"]}]),
        answer(outputs=[{"name": "o", "datatype": "INT32", "shape": [1], "data": [2**40]}]),
        answer(outputs=[{"name": "o", "datatype": "INT32", "shape": [1], "data": [1e400]}]),
        b'{"a":' * 100_000,
    ],
)
def test_what_is_no_response_is_a_bad_output(bad: bytes) -> None:
    with pytest.raises(BadOutput, match="did not return an Open Inference response"):
        response_message(bad)
