"""Envelopes give handlers what TorchServe's give them, and answer with the same bytes."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from ts.torch_handler.request_envelope.base import BaseEnvelope
from ts.torch_handler.request_envelope.body import BodyEnvelope
from ts.torch_handler.request_envelope.json import JSONEnvelope
from ts.torch_handler.request_envelope.kserve import KServeEnvelope
from ts.torch_handler.request_envelope.kservev2 import KServev2Envelope

from tests.unit.worker.ts.contexts import asked, context_of


class Recorder:
    """A handler that keeps what it was given."""

    def __init__(self, answer: Callable[[Any], Any]) -> None:
        self.answer = answer
        self.given: Any = None

    def __call__(self, data: Any, context: Any) -> Any:
        self.given = data
        return self.answer(data)


def through(
    envelope: type[BaseEnvelope], data: Any, answer: Callable[[Any], Any], **headers: str
) -> tuple[Any, Any]:
    """What the handler was given, and what came back."""
    handler = Recorder(answer)
    result = envelope(handler).handle(data, asked(context_of(Path()), **headers))
    return handler.given, result


def double(rows: Any) -> Any:
    return [row * 2 for row in rows]


def test_body_takes_data_before_body_and_changes_no_answer() -> None:
    rows = [{"data": [1], "body": [9]}, {"body": [2]}]
    assert through(BodyEnvelope, rows, double) == ([[1], [2]], [[1, 1], [2, 2]])


@pytest.mark.parametrize("envelope", [BodyEnvelope, JSONEnvelope, KServeEnvelope, KServev2Envelope])
def test_nothing_is_unwrapped_where_there_is_nothing(envelope: type[BaseEnvelope]) -> None:
    assert through(envelope, None, lambda rows: rows) == (None, None)


def test_json_joins_the_instances_and_parts_the_predictions() -> None:
    rows = [{"body": {"instances": [1.5]}}, {"body": b'{"instances": [2, 3]}'}]
    given, answers = through(JSONEnvelope, rows, double)
    assert given == [1.5, 2, 3]
    assert answers == ['{"predictions": [3.0]}', '{"predictions": [4, 6]}']


def test_json_decodes_base64_in_instances_and_in_their_columns() -> None:
    instances = [{"b64": "YQ=="}, {"image": {"b64": "Yg=="}, "name": "x"}, {"b64": "YQ==", "c": 1}]
    given, _ = through(JSONEnvelope, [{"instances": instances}], lambda rows: [1, 2, 3])
    assert given == [b"a", {"image": b"b", "name": "x"}, {"b64": "YQ==", "c": 1}]


@pytest.mark.parametrize("body", [{"instances": [[1], [2]]}, bytearray(b'{"instances":[[1],[2]]}')])
def test_kserve_takes_the_instances_of_one_request(body: Any) -> None:
    given, answer = through(KServeEnvelope, [{"body": body}], lambda rows: [0, 1])
    assert given == [[1], [2]]
    assert json.dumps(answer) == '[{"predictions": [0, 1]}]'


def test_kserve_names_explanations() -> None:
    rows = [{"body": {"instances": [1]}}]
    _, answer = through(KServeEnvelope, rows, lambda rows: ["why"], explain="True")
    assert answer == [{"explanations": ["why"]}]


def infer(*inputs: dict[str, Any], **more: Any) -> list[dict[str, Any]]:
    return [{"body": {"inputs": list(inputs), **more}}]


def tensor(
    data: Any, shape: list[int], datatype: str = "INT64", name: str = "in"
) -> dict[str, Any]:
    return {"name": name, "shape": shape, "datatype": datatype, "data": data}


def test_kservev2_shapes_numbers_and_takes_the_first_text() -> None:
    rows = infer(tensor([1, 2, 3, 4], [2, 2]), tensor(["a", "b"], [2], "BYTES", "text"))
    given, _ = through(KServev2Envelope, rows, lambda rows: [0, 1])
    assert [each["data"] for each in given] == [[[1, 2], [3, 4]], "a"]
    assert (given[0]["name"], given[0]["datatype"], given[0]["shape"]) == ("in", "INT64", [2, 2])


def test_kservev2_answers_to_the_byte() -> None:
    rows = infer(tensor([1, 2], [2]), id="their-id")
    _, answer = through(KServev2Envelope, rows, lambda rows: [[1.5, 2.5]])
    assert json.dumps(answer) == (
        '[{"id": "their-id", "model_name": "m", "model_version": "1.0", "outputs": '
        '[{"name": "in", "datatype": "FP64", "data": [1.5, 2.5], "shape": [2]}]}]'
    )


def test_kservev2_falls_back_to_the_servers_id_and_forgets_the_one_before() -> None:
    envelope = KServev2Envelope(lambda data, context: [0])
    context = context_of(Path())
    first = envelope.handle(infer(tensor([1], [1]), id="a"), context)
    second = envelope.handle(infer(tensor([1], [1]), id=" "), context)
    assert (first[0]["id"], second[0]["id"]) == ("a", "id0")
    assert not hasattr(context, "input_names")


@pytest.mark.parametrize(
    ("result", "datatype"),
    [
        (True, "BOOL"),
        (1, "INT64"),
        (0.5, "FP64"),
        ("text", "BYTES"),
        ({"a": 1}, "BYTES"),
        ([[1, 2], [3, 4]], "INT64"),
    ],
)
def test_kservev2_names_the_datatype_of_what_comes_back(result: Any, datatype: str) -> None:
    _, answer = through(KServev2Envelope, infer(tensor([1], [1])), lambda rows: [result])
    output = answer[0]["outputs"][0]
    assert output["datatype"] == datatype
    assert output["shape"] == [len(output["data"])]
