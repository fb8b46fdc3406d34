"""From messages to what the verbs of the HTTP routes understand."""

from __future__ import annotations

import pytest
from google.protobuf.message import Message

from tsd.grpc.management import asked
from tsd.grpc.protos.management_pb2 import RegisterModelRequest, ScaleWorkerRequest


@pytest.mark.parametrize(
    ("message", "expected"),
    [
        (RegisterModelRequest(), {"synchronous": "false"}),
        (
            RegisterModelRequest(url="m.mar", batch_size=4, synchronous=True),
            {"url": "m.mar", "batch_size": "4", "synchronous": "true"},
        ),
        (
            ScaleWorkerRequest(model_name="m", min_worker=0, max_worker=-1),
            {"model_name": "m", "synchronous": "false"},
        ),
    ],
)
def test_what_says_nothing_counts_as_absent(message: Message, expected: dict[str, str]) -> None:
    assert asked(message) == expected
