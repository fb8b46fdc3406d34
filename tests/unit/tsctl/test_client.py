"""HTTP as bytes: requests as they are written, answers read whole and byte by byte."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tsctl.client import Answer, Request, default_socket, read_chunks, read_head, read_lines, target
from tsctl.failure import Failure, Status


class Trickle(io.BytesIO):
    """A reader that gives one byte at a time, as a slow daemon would."""

    def read1(self, size: int | None = -1, /) -> bytes:
        return super().read1(min(1, size if size is not None and size >= 0 else 1))


READERS = pytest.mark.parametrize("reader", [io.BytesIO, Trickle])
Reader = Callable[[bytes], io.BytesIO]


def begun(answer: bytes, reader: Reader = io.BytesIO) -> Answer:
    begun_answer = Answer("/run/tsd/control.sock", reader(answer))
    begun_answer.begin()
    return begun_answer


def test_a_get_has_no_body_and_closes() -> None:
    assert Request("GET", "/tsd/models").to_bytes() == (
        b"GET /tsd/models HTTP/1.1\r\nHost: tsd\r\nConnection: close\r\n\r\n"
    )


def test_a_body_comes_with_its_length() -> None:
    request = Request("POST", "/predictions/m", {"Content-Type": "text/plain"}, b"hello")
    assert request.to_bytes() == (
        b"POST /predictions/m HTTP/1.1\r\nHost: tsd\r\nConnection: close\r\n"
        b"Content-Type: text/plain\r\nContent-Length: 5\r\n\r\nhello"
    )


def test_a_change_without_a_body_says_so() -> None:
    assert b"Content-Length: 0\r\n" in Request("PUT", "/models/m").to_bytes()


def test_paths_and_parameters_are_quoted_and_absent_ones_left_out() -> None:
    path = target("models", "a/b ü", url="/tmp/my model.mar", handler=None, synchronous=True)
    assert path == "/models/a%2Fb%20%C3%BC?url=%2Ftmp%2Fmy%20model.mar&synchronous=true"


def test_a_file_name_that_is_no_utf_8_passes_as_its_bytes() -> None:
    assert target("models", url="/tmp/\udcff.mar") == "/models?url=%2Ftmp%2F%FF.mar"


@READERS
def test_an_answer_of_known_length_is_read_up_to_it(reader: Reader) -> None:
    answer = begun(b'HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n{"a": 1} rest', reader)
    assert answer.status == 200
    assert answer.json() == {"a": 1}


@READERS
def test_a_chunked_answer_is_joined(reader: Reader) -> None:
    body = b'4\r\n{"a"\r\n5;x=y\r\n: 12}\r\n0\r\n\r\n'
    answer = begun(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + body, reader)
    assert answer.json() == {"a": 12}


@READERS
def test_an_answer_of_unknown_length_ends_with_the_connection(reader: Reader) -> None:
    assert begun(b"HTTP/1.1 200 OK\r\n\r\nall of it", reader).read() == b"all of it"


@READERS
def test_records_are_lines_wherever_the_chunks_are_cut(reader: Reader) -> None:
    body = b'7\r\n{"n": 1\r\n3\r\n}\n{\r\n8\r\n"n": 2}\n\r\n0\r\n\r\n'
    answer = begun(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + body, reader)
    assert list(answer.records()) == [{"n": 1}, {"n": 2}]


def test_a_record_is_given_before_the_next_one_is_asked_for() -> None:
    asked = []

    def chunks() -> Iterator[bytes]:
        for number in range(3):
            asked.append(number)
            yield b"%d\n" % number

    lines = read_lines(chunks())
    assert next(lines) == b"0"
    assert asked == [0]


def test_a_last_line_without_an_end_counts() -> None:
    assert list(read_lines(iter([b"a\n\nb"]))) == [b"a", b"b"]


def test_interim_answers_are_passed_over() -> None:
    status, headers = read_head(
        io.BytesIO(b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 201 Created\r\nX: 1\r\n\r\n")
    )
    assert (status, headers) == (201, {"x": "1"})


def test_the_content_type_is_known_without_its_parameters() -> None:
    answer = begun(b"HTTP/1.1 200 OK\r\nContent-Type: Application/JSON; charset=utf-8\r\n\r\n")
    assert answer.content_type == "application/json"


@pytest.mark.parametrize(
    "head",
    [
        b"",
        b"SSH-2.0-OpenSSH\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Le",
        b"HTTP/1.1 200 OK\r\n" + b"".join(b"H%d: 1\r\n" % n for n in range(300)) + b"\r\n",
        b"HTTP/1.1 200 OK\r\nX: " + b"x" * 70_000 + b"\r\n\r\n",
    ],
)
def test_a_head_that_is_none_means_that_no_daemon_is_there(head: bytes) -> None:
    with pytest.raises(Failure) as caught:
        begun(head)
    assert caught.value.status == Status.UNREACHABLE


@pytest.mark.parametrize(
    "body",
    [
        b"Content-Length: 9\r\n\r\n{}",
        b"Content-Length: many\r\n\r\n{}",
        b"Transfer-Encoding: chunked\r\n\r\n8\r\n{}",
        b"Transfer-Encoding: chunked\r\n\r\nxyz\r\n{}\r\n",
    ],
)
def test_a_body_that_breaks_off_is_a_failure(body: bytes) -> None:
    with pytest.raises(Failure) as caught:
        begun(b"HTTP/1.1 200 OK\r\n" + body).read()
    assert caught.value.status == Status.UNREACHABLE


@pytest.mark.parametrize("read", [Answer.json, lambda answer: list(answer.records())])
def test_a_body_that_is_no_json_is_a_failure(read: Callable[[Answer], object]) -> None:
    with pytest.raises(Failure, match="not understood") as caught:
        read(begun(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n<html"))
    assert caught.value.status == Status.FAILED


def test_a_body_is_read_as_it_comes() -> None:
    reader = io.BytesIO(b"3\r\nabc\r\n0\r\n\r\n")
    assert next(read_chunks(reader, {"transfer-encoding": "chunked"})) == b"abc"


class TestDefaultSocket:
    """Which daemon is meant when nobody says."""

    def test_the_environment_names_it(self) -> None:
        assert default_socket({"TSD_SOCKET": "/x"}, is_root=True) == "/x"

    def test_a_users_own_daemon_comes_first(self, tmp_path: Path) -> None:
        own = tmp_path / "tsd" / "control.sock"
        own.parent.mkdir()
        own.touch()
        environment = {"XDG_RUNTIME_DIR": str(tmp_path)}
        assert default_socket(environment, is_root=False) == str(own)
        assert default_socket(environment, is_root=True) == "/run/tsd/control.sock"

    def test_else_it_is_the_machines(self, tmp_path: Path) -> None:
        environment = {"XDG_RUNTIME_DIR": str(tmp_path)}
        assert default_socket(environment, is_root=False) == "/run/tsd/control.sock"
