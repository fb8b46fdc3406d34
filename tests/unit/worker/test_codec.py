"""Bodies become rows and results become answers by TorchServe's rules."""

import json
import os
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tsd.errors import BadRequest
from tsd.ipc.layout import Outcome, pack_fields
from tsd.worker import codec

FORM = [("Content-Type", "application/x-www-form-urlencoded")]
MULTIPART = [("content-type", "multipart/form-data; boundary=BB")]


def row_of(content_type: str | None, body: bytes) -> dict[str, Any]:
    headers = [] if content_type is None else [("Content-Type", content_type)]
    return read(headers, memoryview(body).toreadonly())[0]


def read(
    headers: list[tuple[str, str]], body: codec.Body, *, decode_input: bool = True
) -> tuple[dict[str, Any], dict[str, str]]:
    fields = pack_fields([(name.encode(), value.encode()) for name, value in headers])
    return codec.decoded_row(codec.head_of(fields), body, decode_input=decode_input)


def part(body: bytes, disposition: str, content_type: str | None = None) -> bytes:
    head = f"Content-Disposition: form-data; {disposition}\r\n"
    if content_type is not None:
        head += f"Content-Type: {content_type}\r\n"
    return b"--BB\r\n" + head.encode() + b"\r\n" + body + b"\r\n"


@pytest.mark.parametrize(
    ("content_type", "body", "value"),
    [
        (None, b"\x00\x01", bytearray(b"\x00\x01")),
        ("image/png", b"\x89PNG", bytearray(b"\x89PNG")),
        ("application/json", b'{"a": 1}', {"a": 1}),
        ("application/json; charset=utf-8", b"[1]", [1]),
        ("application/json", b"{bad", bytearray(b"{bad")),
        ("application/json", b'"\xff"', bytearray(b'"\xff"')),
        ("application/json", b"[" * 100_000, bytearray(b"[" * 100_000)),
        ("application/json", b"", bytearray()),
        ("application/json", b"null", None),
        ("APPLICATION/JSON", b"[1]", bytearray(b"[1]")),
        ("application/vnd.api+json", b"[1]", bytearray(b"[1]")),
        ("text/plain", "hé".encode(), "hé"),
        ("text/csv; charset=utf-8", b"1,2", "1,2"),
        ("text/plain", b"\xff", bytearray(b"\xff")),
        ("text/plain", b"", ""),
        ("application/json ; charset=utf-8", b"[1]", bytearray(b"[1]")),
        ("Multipart/Form-Data; boundary=B", b"--B--", bytearray(b"--B--")),
    ],
)
def test_a_body_becomes_what_its_content_type_says(
    content_type: str | None, body: bytes, value: Any
) -> None:
    row = row_of(content_type, body)
    assert row == {"body": value}
    assert type(row["body"]) is type(value)


def test_binary_values_are_the_handlers_own_copy() -> None:
    row = row_of(None, b"abc")
    row["body"][0] = 0
    assert row["body"] == b"\x00bc"


def test_lent_bytes_are_where_they_lie_and_cannot_be_written() -> None:
    body = bytearray(b"abcde")
    with_query = codec.head_of(pack_fields([(b"?q", b"1")]))
    row, types = codec.decoded_row(with_query, memoryview(body), hand=codec.lent)
    named = codec.head_of(pack_fields([(b"<x", b"2"), (b"<y", b"3")]))
    inputs, _ = codec.decoded_row(named, memoryview(body), hand=codec.lent)
    body[:] = b"ABCDE"
    assert row == {"q": b"1", "body": b"ABCDE"}
    assert types == {"q": "", "body": ""}
    assert inputs == {"x": b"AB", "y": b"CDE"}
    assert all(value.readonly for value in [row["body"], *inputs.values()])
    as_json = codec.head_of(pack_fields([(b"Content-Type", b"application/json")]))
    assert codec.decoded_row(as_json, b"[1]", hand=codec.lent)[0] == {"body": [1]}


def test_nothing_is_decoded_where_the_server_says_so() -> None:
    headers = [("Content-Type", "application/json")]
    assert read(headers, b"[1]", decode_input=False)[0] == {"body": bytearray(b"[1]")}


def test_urlencoded_fields_are_bytes_and_the_last_of_a_name_wins() -> None:
    row, types = read(FORM, b"a=1&b=x+%41%FF&c&d=&a=2")
    assert row == {"a": bytearray(b"2"), "b": bytearray(b"x A\xff"), "d": bytearray()}
    assert types == {"a": "", "b": "", "d": ""}


@pytest.mark.parametrize("body", [b'{"a":1}', b"", b"&&"])
def test_an_urlencoded_body_without_fields_gives_an_empty_row(body: bytes) -> None:
    assert read(FORM, body) == ({}, {})


def test_files_of_a_form_are_decoded_by_their_type_and_plain_fields_never() -> None:
    body = (
        part(b"\xff\xd8", 'name="data"; filename="k.jpg"', "image/jpeg")
        + part(b"val", 'name="x"')
        + part(b'{"q":1}', 'name="j"; filename="j.json"', "application/json")
        + part(b"hello", 'name="t"; filename="t.txt"', "text/plain; charset=utf-8")
        + part(b"zz", 'name="nc"; filename="f.bin"')
        + part(b'{"z":1}', 'name="aj"', "application/json")
        + b"--BB--\r\n"
    )
    row, types = read(MULTIPART, body)
    assert row == {
        "data": bytearray(b"\xff\xd8"),
        "x": bytearray(b"val"),
        "j": {"q": 1},
        "t": "hello",
        "nc": bytearray(b"zz"),
        "aj": bytearray(b'{"z":1}'),
    }
    assert types == {
        "data": "image/jpeg",
        "x": "",
        "j": "application/json",
        "t": "text/plain",
        "nc": "application/octet-stream",
        "aj": "",
    }


def test_the_last_part_of_a_name_wins_and_may_be_empty() -> None:
    body = part(b"1", 'name="d"') + part(b"", 'name="d"') + b"--BB--\r\n"
    assert read(MULTIPART, body)[0] == {"d": bytearray()}


def test_a_form_without_parts_gives_an_empty_row() -> None:
    assert read(MULTIPART, b"--BB--\r\n") == ({}, {})


@pytest.mark.parametrize("size", [0, 1, *range(65_400, 65_540, 7), 3 * 65_536])
def test_a_file_may_be_longer_than_the_pieces_that_a_form_is_read_in(size: int) -> None:
    data = b"\r\n--B" * (size // 5) + b"x" * (size % 5)
    body = part(data, 'name="a"; filename="f"') + part(b"1", 'name="b"') + b"--BB--\r\n"
    row, _ = read(MULTIPART, memoryview(body).toreadonly())
    assert row == {"a": data, "b": b"1"}
    row["a"] += b"own"


@pytest.mark.parametrize(
    ("content_type", "body"),
    [
        ("multipart/form-data; boundary=BB", b""),
        ("multipart/form-data; boundary=BB", b"junk"),
        ("multipart/form-data; boundary=BB", part(b"1", 'name="a"')),
        ("multipart/form-data; boundary=BB", b"--BB\r\nno header\r\n\r\nx\r\n--BB--\r\n"),
        ("multipart/form-data; boundary=BB", part(b"1", 'name="a"') * 2_000 + b"--BB--\r\n"),
        ("multipart/form-data", part(b"1", 'name="a"') + b"--BB--\r\n"),
        ("multipart/form-data; boundary=" + "B" * 100_000, b"--BB--\r\n"),
    ],
)
def test_a_broken_form_is_refused(content_type: str, body: bytes) -> None:
    with pytest.raises(BadRequest):
        read([("Content-Type", content_type)], body)


@given(st.binary(max_size=200), st.sampled_from([FORM, MULTIPART]))
def test_no_body_breaks_the_form_parsers(body: bytes, headers: list[tuple[str, str]]) -> None:
    try:
        row, types = read(headers, body)
    except BadRequest:
        return
    assert set(row) == set(types)


def test_a_handler_sees_input_types_then_headers_in_the_clients_case() -> None:
    headers = [("X-Custom", "A"), ("x-custom", "b"), ("X-Custom", "C"), ("Content-Length", "3")]
    assert codec.request_headers(headers, {"body": "text/plain"}, 3) == {
        "body": {"content-type": "text/plain"},
        "X-Custom": "C",
        "x-custom": "b",
        "Content-Length": "3",
    }


def test_a_request_without_a_length_gains_one() -> None:
    assert codec.request_headers([], {"body": ""}, 0)["content-length"] == "0"


@pytest.mark.parametrize(
    ("result", "body"),
    [
        (b"\x00raw", b"\x00raw"),
        (bytearray(b"x"), b"x"),
        ("text-é", "text-é".encode()),
        (None, b"null"),
        (1.5, b"1.5"),
        (7, b"7"),
        ([1, [2]], json.dumps([1, [2]], indent=2).encode()),
        ({"v": "é"}, b'{\n  "v": "\\u00e9"\n}'),
    ],
)
def test_results_are_sent_as_torchserve_sends_them(result: Any, body: bytes) -> None:
    assert codec.encode(result) == body


def test_status_and_headers_of_the_handler_reach_the_answer() -> None:
    answer = codec.answer(b"s", 202, "Very Accepted", {"X-A": 1})
    assert answer == codec.Answer(Outcome.OK, 202, "Very Accepted", [("X-A", "1")], b"s")


@pytest.mark.parametrize("status", [99, 150, 600, -1])
def test_a_status_that_is_none_is_a_bad_output(status: int) -> None:
    assert codec.answer(b"", status, "", {}).outcome is Outcome.BAD_OUTPUT


@pytest.mark.parametrize(
    ("reason", "headers"), [("a\r\nb", {}), ("", {"a": "x\ny"}), ("", {"a\0": "x"})]
)
def test_a_header_cannot_smuggle_another(reason: str, headers: dict[str, str]) -> None:
    answer = codec.answer(b"", 200, reason, headers)
    assert (answer.outcome, answer.headers) == (Outcome.BAD_OUTPUT, ())


@pytest.mark.parametrize(
    ("asked", "status"), [(418, 418), ("404", 404), (200, 500), (700, 500), (None, 500)]
)
def test_a_refusal_has_a_status_that_is_an_error(asked: object, status: int) -> None:
    answer = codec.refused("teapot \ud800", asked)
    assert (answer.outcome, answer.status, answer.message) == (Outcome.REFUSED, status, "teapot ?")


@pytest.mark.parametrize(
    ("error", "outcome"),
    [
        (ValueError("boom"), Outcome.RAISED),
        (MemoryError(), Outcome.OUT_OF_MEMORY),
        (RuntimeError("CUDA out of memory."), Outcome.OUT_OF_MEMORY),
    ],
)
def test_what_a_handler_raises_fails_its_whole_batch(error: Exception, outcome: Outcome) -> None:
    first, second = codec.raised(error, 2)
    assert first.outcome is outcome
    assert second.outcome is outcome
    assert type(error).__name__ in first.message
    assert second.message == ""


def test_a_traceback_is_cut_to_its_end() -> None:
    message = codec.raised(ValueError("é" * 50_000 + "end"), 1)[0].message
    assert len(message.encode()) <= codec.MAX_TRACEBACK_BYTES + 3
    assert message.endswith("end\n")


def test_an_error_that_cannot_say_what_it_is_is_still_reported() -> None:
    class Mute(Exception):
        def __str__(self) -> str:
            raise OSError

    assert "Mute" in codec.raised(Mute(), 1)[0].message


def test_random_bytes_survive_the_way_to_the_handler() -> None:
    body = os.urandom(5_000)
    assert row_of("application/octet-stream", body)["body"] == body
