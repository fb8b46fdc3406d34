"""Answers are whole at their end and not before, however they are cut."""

from __future__ import annotations

import pytest

from tsctl.bench.answer import Incoming

FIXED = b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 5\r\n\r\nseven"
EMPTY = b"HTTP/1.1 503 Service Unavailable\r\ncontent-length:0\r\nConnection: close\r\n\r\n"
CHUNKED = (
    b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
    # The end of an answer stands in the midst of the first chunk.
    b"9;x=1\r\n\r\n0\r\n\r\nab\r\n1\r\nc\r\n0\r\nTrailer: x\r\n\r\n"
)


@pytest.mark.parametrize("answer", [FIXED, EMPTY, CHUNKED])
def test_whole_or_byte_by_byte_an_answer_ends_where_it_ends(answer: bytes) -> None:
    assert Incoming().feed(answer)
    slow = Incoming()
    assert [slow.feed(answer[at : at + 1]) for at in range(len(answer))] == [
        *[False] * (len(answer) - 1),
        True,
    ]


@pytest.mark.parametrize(("answer", "is_success"), [(FIXED, True), (EMPTY, False)])
def test_an_error_counts_for_nothing_and_ends_the_connection(
    answer: bytes, *, is_success: bool
) -> None:
    incoming = Incoming()
    incoming.feed(answer)
    assert incoming.is_success == is_success
    assert incoming.is_last != is_success
