"""The bytes of answers, and which status an error gets at which door."""

from __future__ import annotations

import inspect
import re

import pytest

from tsd import errors
from tsd.api.answers import error_answer, error_status, head, json_answer, json_body, new_request_id

UUID4 = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}")
EVERY_ERROR = [
    value
    for value in vars(errors).values()
    if inspect.isclass(value) and issubclass(value, errors.TsdError)
]


def test_request_ids_are_random_uuids() -> None:
    ids = {new_request_id() for _ in range(1000)}
    assert len(ids) == 1000
    assert all(UUID4.fullmatch(text.decode()) for text in ids)


def test_json_is_printed_as_torchserve_does() -> None:
    assert json_body({"status": "Größe <&>"}) == '{\n  "status": "Größe <&>"\n}\n'.encode()
    assert json_body([]) == b"[]\n"


def test_headers_stand_in_torchserves_order() -> None:
    assert head(b"id", b"more: 1\r\n") == (
        b"x-request-id: id\r\n"
        b"Pragma: no-cache\r\n"
        b"Cache-Control: no-cache; no-store, must-revalidate, private\r\n"
        b"Expires: Thu, 01 Jan 1970 00:00:00 UTC\r\n"
        b"more: 1\r\n"
    )


def test_from_400_on_the_connection_is_closed() -> None:
    assert not json_answer({}).is_last
    assert json_answer({}, 500).is_last


@pytest.mark.parametrize("kind", EVERY_ERROR, ids=lambda kind: kind.__name__)
def test_every_error_has_a_code_and_statuses(kind: type[errors.TsdError]) -> None:
    assert re.fullmatch(r"[a-z_]+", kind.code)
    assert 400 <= kind.status <= 599
    assert re.fullmatch(r"[A-Z_]+", kind.grpc_status)
    assert kind.__doc__


@pytest.mark.parametrize(
    ("error", "torchserve", "own"),
    [
        (errors.WorkerDied("x"), 500, 502),
        (errors.WorkerHung("x"), 500, 504),
        (errors.HandlerRaised("x"), 503, 500),
        (errors.OutOfResources("x"), 507, 503),
        (errors.PredictionRefused("x", 418), 418, 418),
        (errors.QueueFull("x"), 503, 503),
        (errors.DeadlinePassed("x"), 504, 504),
    ],
)
def test_torchserves_routes_keep_its_statuses(
    error: errors.TsdError, torchserve: int, own: int
) -> None:
    assert error_status(error, is_torchserve=True) == torchserve
    assert error_status(error, is_torchserve=False) == own


def test_operators_are_told_why_and_what_to_do_and_others_are_not() -> None:
    error = errors.BadRequest("what", why="because", fix="do", traceback="secret")
    told = bytes(error_answer(error, for_operator=True).body)
    assert b'"why": "because"' in told
    assert b'"fix": "do"' in told
    assert bytes(error_answer(error).body) == (
        b'{\n  "code": 400,\n  "type": "BadRequestException",\n  "message": "what"\n}\n'
    )
    assert b"secret" not in told


def test_whoever_may_come_again_is_told_when() -> None:
    assert b"retry-after: 1\r\n" in error_answer(errors.QueueFull("x")).head
    assert b"retry-after" not in error_answer(errors.BadRequest("x")).head


def test_a_status_that_netty_does_not_know_has_nettys_words() -> None:
    assert error_answer(errors.PredictionRefused("x", 418)).reason == b"Client Error (418)"
    assert error_answer(errors.PredictionRefused("x", 599)).reason == b"Server Error (599)"
