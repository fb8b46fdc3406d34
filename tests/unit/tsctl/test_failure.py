"""Which exit status an answer means, and what the operator is told."""

from __future__ import annotations

import json

import pytest

from tsctl.failure import Status, exit_status, from_answer


@pytest.mark.parametrize(
    ("http_status", "status"),
    [
        (302, Status.FAILED),
        (400, Status.REJECTED),
        (401, Status.NOT_PERMITTED),
        (403, Status.NOT_PERMITTED),
        (404, Status.NOT_FOUND),
        (409, Status.REJECTED),
        (413, Status.REJECTED),
        (500, Status.CANNOT_SERVE),
        (503, Status.CANNOT_SERVE),
        (507, Status.CANNOT_SERVE),
    ],
)
def test_each_kind_of_http_status_has_its_exit_status(http_status: int, status: Status) -> None:
    assert exit_status(http_status) == status


def test_the_daemons_own_words_are_kept() -> None:
    error = {"code": 404, "type": "T", "message": "No m", "why": "w", "fix": "f", "traceback": "t"}
    failure = from_answer(404, json.dumps(error).encode())
    assert (failure.what, failure.why, failure.fix) == ("No m", "w", "f")
    assert failure.traceback == "t"
    assert failure.answer == error


def test_torchserves_plain_errors_get_a_reason_and_advice() -> None:
    body = b'{"code": 404, "type": "ModelNotFoundException", "message": "Model not found: m"}'
    failure = from_answer(404, body)
    assert failure.what == "Model not found: m"
    assert failure.why == "ModelNotFoundException, HTTP 404"
    assert "tsctl list" in failure.fix


@pytest.mark.parametrize("body", [b"", b"<html>bad gateway", b"[1]", b"\xff\xfe"])
def test_an_answer_that_is_no_error_object_is_still_a_failure(body: bytes) -> None:
    failure = from_answer(502, body)
    assert failure.what == "the daemon answered HTTP 502"
    assert failure.status == Status.CANNOT_SERVE
    assert failure.why
    assert failure.fix
