"""What tsctl predict sends, and what it shows on a terminal."""

from __future__ import annotations

from pathlib import Path

import pytest

from tsctl.arguments import parse
from tsctl.commands.predict import predict_request, readable
from tsctl.failure import Failure, Status


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("x.json", "application/json"),
        ("x.png", "image/png"),
        ("x.JPG", "image/jpeg"),
        ("x.txt", "text/plain"),
        ("x.bin", "application/octet-stream"),
    ],
)
def test_a_file_is_sent_as_what_its_name_says(tmp_path: Path, name: str, kind: str) -> None:
    file = tmp_path / name
    file.write_bytes(b"\x00\xff")
    request = predict_request(parse(["predict", "digits", str(file)]))
    assert (request.method, request.target) == ("POST", "/predictions/digits")
    assert request.headers == {"Content-Type": kind}
    assert request.body == b"\x00\xff"


@pytest.mark.parametrize(
    ("data", "kind"),
    [("[1, 2]", "application/json"), ("good morning", "text/plain"), ("", "text/plain")],
)
def test_a_string_is_json_if_it_can_be_read_so(data: str, kind: str) -> None:
    request = predict_request(parse(["predict", "m", "--version", "2.0", "--data", data]))
    assert request.target == "/predictions/m/2.0"
    assert request.headers == {"Content-Type": kind}
    assert request.body == data.encode()


def test_the_operator_may_know_better() -> None:
    request = predict_request(parse(["predict", "m", "--data", "1", "--content-type", "text/csv"]))
    assert request.headers == {"Content-Type": "text/csv"}


def test_there_is_one_input() -> None:
    with pytest.raises(Failure, match="one input") as caught:
        predict_request(parse(["predict", "m", "x.png", "--data", "1"]))
    assert caught.value.status == Status.USAGE


@pytest.mark.parametrize(
    ("body", "text"),
    [
        (
            b'{"label": "\\u001b7", "p": [0.5]}',
            '{\n  "label": "\\u001b7",\n  "p": [\n    0.5\n  ]\n}',
        ),
        ('"schön"'.encode(), '"schön"'),
        (b"line 1\nline 2\x1b[2J\n", "line 1\nline 2\\x1b[2J"),
        (b"", ""),
    ],
)
def test_a_terminal_gets_json_laid_out_and_text_made_harmless(body: bytes, text: str) -> None:
    assert readable(body) == text


def test_a_terminal_gets_no_bytes_that_are_not_text() -> None:
    with pytest.raises(Failure, match="not shown") as caught:
        readable(b"\x89PNG\xff")
    assert "-o FILE" in caught.value.fix
