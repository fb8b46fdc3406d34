"""What reflection tells of the services."""

from __future__ import annotations

import pytest

from tsd.grpc import health, inference, management, open_inference, reflection
from tsd.grpc.protos import open_inference_pb2


@pytest.mark.parametrize(
    "name",
    [
        health.NAME,
        inference.NAME,
        management.NAME,
        open_inference.NAME,
        open_inference.STANDARD_NAME,
        reflection.NAME,
    ],
)
def test_every_service_is_described(name: str) -> None:
    described = reflection.descriptions().FindServiceByName(name)
    assert described.full_name == name
    assert described.methods


def test_the_standard_name_has_the_same_messages() -> None:
    described = reflection.descriptions().FindMessageTypeByName("inference.ModelInferRequest")
    ours = open_inference_pb2.ModelInferRequest.DESCRIPTOR
    assert [(f.name, f.number, f.type) for f in described.fields] == [
        (f.name, f.number, f.type) for f in ours.fields
    ]
    inputs = described.fields_by_name["inputs"].message_type
    assert inputs is not None
    assert inputs.full_name == "inference.ModelInferRequest.InferInputTensor"
