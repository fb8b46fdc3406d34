"""Heads like the one before: what they give is what the parser would have given."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import settings as example_settings
from hypothesis import strategies as st

from tests.unit.http.wire import Client, settings
from tsd.http.head import HeadReader, KnownHeads
from tsd.http.message import Head, Request
from tsd.http.pattern import HeadPattern
from tsd.http.refusal import MessageError
from tsd.settings import HttpSettings

START = b"POST /a?b HTTP/1.1\r\n"
FIRST = START + b"Host: a\r\nX-Id: 1\r\nContent-Length: 5\r\nConnection: keep-alive\r\n\r\n"

# What a line may be replaced by: often harmless, often not.
NAMES = st.sampled_from(
    b"X-Id x-id Host Content-Length Transfer-Encoding Expect Connection Upgrade "
    b"Proxy-Connection Content_Length X(".split(b" ")
)
VALUES = st.sampled_from(
    b"7| 12 |007|+1||99999999999999999999|chunked|100-continue|close|h2c|a:80|"
    b"\ta\t|a\rb|a\n b".split(b"|")
) | st.binary(max_size=6)
LINES = st.builds(lambda name, value: name + b": " + value, NAMES, VALUES)


def pattern(piece: bytes, limits: HttpSettings | None = None) -> HeadPattern:
    """What follows a first head."""
    limits = HttpSettings() if limits is None else limits
    _, head = HeadReader(limits, KnownHeads()).read(piece, 0)
    assert head is not None
    made = HeadPattern(limits)
    made.set(piece, head)
    return made


def parsed(piece: bytes) -> tuple[int, Head | None] | int:
    """What a new reader makes of it: the end and the head, or the status of the refusal."""
    return read(HeadReader(HttpSettings(), KnownHeads()), piece)


def read(reader: HeadReader, piece: bytes) -> tuple[int, Head | None] | int:
    try:
        return reader.read(piece, 0)
    except MessageError as error:
        return error.status


def test_a_head_with_another_length_and_id_follows() -> None:
    piece = FIRST.replace(b"Length: 5", b"Length:  1234 ").replace(b"Id: 1", b"Id:caf\xc3\xa9")
    head = pattern(FIRST).follow(piece)
    assert head is not None
    assert (len(piece), head) == parsed(piece)
    assert (head.content_length, head.path, head.query) == (1234, "/a", "b")
    assert head.headers[1] == (b"X-Id", b"caf\xc3\xa9")


def test_heads_that_follow_leave_those_before_as_they_were() -> None:
    seen: list[Request] = []
    client = Client(seen.append)
    for number in (1, 2, 3):
        client.send(b"GET / HTTP/1.1\r\nHost: a\r\nX-Id: %d\r\n\r\n" % number)
    assert [request.header(b"x-id") for request in seen] == [b"1", b"2", b"3"]


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (b"POST", b"PUT"),
        (b"Host: a", b"Host: b"),
        (b"X-Id: 1", b"x-id: 1"),
        (b"X-Id: 1", b"X-Id : 1"),
        (b"X-Id: 1", b"X-Id: \x01"),
        (b"X-Id: 1", b"X-Id: a\rb"),
        (b"X-Id: 1", b"X-Id: a\nb"),
        (b"X-Id: 1", b"X-Id: 1\r\nY: 1"),
        (b"X-Id: 1\r\n", b""),
        (b"keep-alive", b"close"),
        (b"Length: 5", b"Length: 05"),
        (b"Length: 5", b"Length: +5"),
        (b"Length: 5", b"Length: "),
        (b"Length: 5", b"Length: 6553501"),
        (b"Length: 5", b"Length: 10000000000000000"),
        (b"\r\nHost", b"\r\n Host"),
    ],
)
def test_what_might_be_read_otherwise_is_left_to_the_parser(old: bytes, new: bytes) -> None:
    assert pattern(FIRST).follow(FIRST.replace(old, new, 1)) is None


def test_a_length_of_nothing_follows() -> None:
    head = pattern(FIRST).follow(FIRST.replace(b"Length: 5", b"Length: 0"))
    assert head is not None
    assert head.content_length == 0


def test_a_head_without_length_is_followed_by_heads_without_length() -> None:
    first = START + b"Host: a\r\nX: 1\r\n\r\n"
    head = pattern(first).follow(first.replace(b"X: 1", b"X: 2"))
    assert head is not None
    assert head.content_length == 0


def test_the_same_head_again_is_left_to_those_who_remember_it() -> None:
    assert pattern(FIRST).follow(FIRST) is None


def test_nothing_follows_before_the_first_head_or_one_behind_blank_lines() -> None:
    assert HeadPattern(HttpSettings()).follow(FIRST) is None
    blank = b"\r\n" + FIRST
    assert pattern(blank).follow(blank.replace(b"X-Id: 1", b"X-Id: 2")) is None


def test_heads_beyond_a_limit_do_not_follow() -> None:
    reader = HeadReader(settings(max_header_bytes=100), KnownHeads())
    short = b"GET / HTTP/1.1\r\nHost: a\r\nX: y\r\n\r\n"
    assert read(reader, short) == (len(short), parsed(short)[1])  # type: ignore[index]
    assert read(reader, short.replace(b"y", b"y" * 100)) == 431


@example_settings(max_examples=400)
@given(changes=st.lists(st.tuples(st.integers(1, 4), LINES), min_size=1, max_size=3))
def test_whatever_changes_the_parser_would_have_said_the_same(
    changes: list[tuple[int, bytes]],
) -> None:
    lines = FIRST.split(b"\r\n")
    for number, line in changes:
        lines[number] = line
    piece = b"\r\n".join(lines)
    reader = HeadReader(HttpSettings(), KnownHeads())
    read(reader, FIRST)
    assert read(reader, piece) == parsed(piece)
