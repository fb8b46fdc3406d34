"""The commands that change models: what they ask for, and how they take the answer."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import pytest

from tsctl.arguments import parse
from tsctl.client import Answer, Request
from tsctl.commands.change import REQUESTS, archive_url, confirmation, final_record, watch
from tsctl.console import Console
from tsctl.failure import Failure, Json, Status

RESULT = {"result": {"code": 200, "status": 'Model "m" Version: 1 registered'}, "model": "m"}


def request_of(words: str) -> Request:
    arguments = parse(words.split())
    return REQUESTS[arguments.command](arguments)


@pytest.mark.parametrize(
    ("words", "method", "target"),
    [
        ("register none.mar", "POST", "/models?url=none.mar&initial_workers=1&synchronous=true"),
        (
            "register http://x/m.mar --model-name m --handler h.py --batch-size 4"
            " --max-batch-delay 5 --initial-workers 2 --response-timeout 6 --startup-timeout 7",
            "POST",
            "/models?url=http%3A%2F%2Fx%2Fm.mar&model_name=m&handler=h.py&batch_size=4"
            "&max_batch_delay=5&initial_workers=2&response_timeout=6&startup_timeout=7"
            "&synchronous=true",
        ),
        (
            "register none.mar --no-wait",
            "POST",
            "/models?url=none.mar&initial_workers=1&synchronous=false",
        ),
        ("scale m 3", "PUT", "/models/m?min_worker=3&max_worker=3&synchronous=true"),
        (
            "scale m --batch-size 8 --max-batch-delay 0",
            "PUT",
            "/models/m?batch_size=8&max_batch_delay=0&synchronous=true",
        ),
        (
            "scale m 0 --version 2 --no-wait",
            "PUT",
            "/models/m/2?min_worker=0&max_worker=0&synchronous=false",
        ),
        ("unregister m", "DELETE", "/models/m"),
        ("unregister m 2.0", "DELETE", "/models/m/2.0"),
        ("set-default m 2.0", "PUT", "/models/m/2.0/set-default"),
    ],
)
def test_each_command_is_one_request(words: str, method: str, target: str) -> None:
    request = request_of(words)
    assert (request.method, request.target) == (method, target)


def test_the_phases_are_asked_for_only_when_waiting() -> None:
    assert request_of("scale m 1").headers == {"Accept": "application/x-ndjson"}
    assert request_of("scale m 1 --no-wait").headers == {"Accept": "application/json"}


def test_a_file_that_is_here_goes_by_its_whole_path(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "digits.mar").touch()
    assert archive_url("digits.mar") == str(tmp_path / "digits.mar")
    assert archive_url("other.mar") == "other.mar"


def test_the_phases_are_shown_and_the_result_given_back() -> None:
    shown: list[Json] = []
    records: list[Json] = [{"phase": "queued"}, {"phase": "ready"}, RESULT]
    assert final_record(records, shown.append) == RESULT
    assert shown == records[:2]


def test_an_error_at_the_end_is_a_failure_with_its_traceback() -> None:
    error = {"code": 500, "message": "Failed to start workers", "traceback": "Boom", "why": "w"}
    with pytest.raises(Failure, match="Failed to start workers") as caught:
        final_record([{"phase": "loading"}, {"error": error}], lambda _: None)
    assert caught.value.status == Status.CANNOT_SERVE
    assert caught.value.traceback == "Boom"


def test_a_stream_without_an_end_means_that_the_daemon_left() -> None:
    with pytest.raises(Failure, match="left before the end") as caught:
        final_record([{"phase": "loading"}], lambda _: None)
    assert caught.value.status == Status.UNREACHABLE


def test_the_confirmation_is_the_daemons_own_sentence() -> None:
    assert confirmation(RESULT) == 'Model "m" Version: 1 registered'
    assert confirmation({"status": "Processing worker updates..."}).startswith("Processing")
    assert confirmation({}) == "done"


class Terminal(io.StringIO):
    """A stream that says it is a terminal."""

    def isatty(self) -> bool:
        return True


def answer_of(content_type: str, *lines: Any) -> Answer:
    body = "".join(json.dumps(line) + "\n" for line in lines)
    head = f"HTTP/1.1 200 OK\r\nContent-Type: {content_type}\r\n\r\n"
    answer = Answer("/s", io.BytesIO((head + body).encode()))
    answer.begin()
    return answer


def test_a_plain_answer_is_taken_as_it_is() -> None:
    console = Console(io.StringIO(), io.StringIO())
    assert watch(answer_of("application/json", {"status": "ok"}), console) == {"status": "ok"}


@pytest.mark.parametrize(
    ("errors", "is_quiet", "shown"),
    [
        (io.StringIO(), False, "queued\n"),
        (io.StringIO(), True, ""),
        (Terminal(), False, "\r\x1b[Kqueued, 0.0 s\r\x1b[K"),
    ],
)
def test_progress_goes_to_standard_error(errors: io.StringIO, is_quiet: bool, shown: str) -> None:  # noqa: FBT001 - a parameter of the table above
    console = Console(io.StringIO(), errors)
    console.is_quiet = is_quiet
    answer = answer_of("application/x-ndjson", {"phase": "queued"}, RESULT)
    assert watch(answer, console) == RESULT
    assert errors.getvalue() == shown
