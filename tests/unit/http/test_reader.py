"""Requests out of bytes: bodies that wait for their place, and bodies that nobody wants."""

from __future__ import annotations

import pytest

from tests.unit.http.wire import GET, Client, answer, post, refuse, silent
from tsd.http.head import KnownHeads
from tsd.http.message import Response
from tsd.http.reader import DROPPED_BYTES
from tsd.http.refusal import refused

# A body that waits for its place.


@pytest.mark.parametrize("came", [0, 1, 3])
def test_nothing_is_read_until_the_body_has_a_place(came: int) -> None:
    client = Client(silent)
    client.send(post(3) + b"abc"[:came])
    assert not client.wire.is_reading()
    client.wire.inbox.append(b"abc"[came:] + GET)
    client.requests[0].receive(lambda whole: whole.respond(Response(200, whole.body)))
    client.turn()
    client.requests[1].respond(Response(200))
    assert client.got == answer(b"abc") + answer(b"")


# Refusals before the body.


@pytest.mark.parametrize("came", [0, 1, 3])
def test_a_small_refused_body_is_dropped_and_the_connection_kept(came: int) -> None:
    client = Client(refuse)
    client.send(post(3) + b"abc"[:came])
    assert client.got == answer(b"", status=404)
    client.send(b"abc"[came:] + GET)
    assert client.got == answer(b"", status=404) + answer(b"GET / |")


def test_a_refusal_may_come_while_the_body_waits_for_its_place() -> None:
    client = Client(silent)
    client.send(post(3) + b"ab")
    client.wire.inbox.append(b"c" + GET)
    client.requests[0].respond(Response(503))
    client.turn()
    client.requests[1].respond(Response(200))
    assert client.got == answer(b"", status=503) + answer(b"")


def test_a_refusal_may_come_before_anything_of_the_body() -> None:
    client = Client(silent)
    client.send(post(3))
    client.requests[0].respond(Response(503))
    client.send(b"abc" + GET)
    assert len(client.requests) == 2


def test_a_refused_body_is_dropped_only_up_to_the_bound() -> None:
    for size, ends in ((DROPPED_BYTES, False), (DROPPED_BYTES + 1, True)):
        client = Client(refuse)
        client.send(post(size))
        assert client.got == answer(b"", status=404, is_last=ends)
        assert client.is_ended == ends


def test_a_refused_chunked_body_ends_the_connection() -> None:
    client = Client(refuse)
    client.send(b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n1\r\n")
    assert client.got == answer(b"", status=404, is_last=True)
    assert client.is_ended


def test_an_answer_may_come_while_the_body_is_read() -> None:
    calls: list[str] = []
    client = Client(lambda request: request.receive(lambda _whole: calls.append("complete")))
    client.send(post(3) + b"a")
    client.requests[0].respond(Response(504))
    client.send(b"bc" + GET)
    assert client.got == answer(b"", status=504)
    assert len(client.requests) == 2
    # Only the second one, which has no body.
    assert calls == ["complete"]


def test_a_request_like_the_one_before_is_read_without_its_head_being_looked_at() -> None:
    client = Client()
    for number in range(4):
        body = b"%03d" % number
        client.send(post(3) + body)
        assert client.got.endswith(answer(b"POST / %b|" % body))
    assert len({id(request.head) for request in client.requests[1:]}) == 1


@pytest.mark.parametrize(
    "other",
    [
        post(2) + b"ab",
        post(3) + b"ab",  # more is to come
        post(3) + b"abcGET",
        b"GET / HTTP/1.1\r\nHost: a\r\n\r\n",
        b"X" + post(3) + b"ab",
    ],
)
def test_what_is_like_it_only_in_part_is_read_in_the_usual_way(other: bytes) -> None:
    known, fresh = Client(), Client()
    for _ in range(3):
        known.send(post(3) + b"abc")
    before = len(known.got)
    known.send(other)
    known.send(b"c")
    fresh.send(other)
    fresh.send(b"c")
    assert known.got[before:] == fresh.got


def test_a_known_head_that_ends_the_connection_or_awaits_its_body_is_read_as_such() -> None:
    for extra in (b"Connection: close\r\n", b"Expect: 100-continue\r\n"):
        heads = KnownHeads()
        for _ in range(4):
            client = Client(known_heads=heads)
            client.send(post(3, extra) + b"abc")
            assert answer(b"POST / abc|", is_last=b"close" in extra) in client.got
            assert client.wire.is_closing() == (b"close" in extra)


def test_a_body_that_came_with_its_head_is_taken_once_it_has_a_place() -> None:
    client = Client(silent)
    client.send(post(3) + b"abc")
    assert not client.wire.is_reading()
    room = memoryview(bytearray(3))
    client.requests[0].receive(lambda whole: whole.respond(Response(200, whole.body)), room)
    assert bytes(room) == b"abc"
    assert client.got == answer(b"abc")
    assert client.wire.is_reading()
    client.send(GET)
    assert len(client.requests) == 2


def test_a_body_that_came_with_its_head_may_be_too_long() -> None:
    client = Client(silent)
    client.send(post(3) + b"abc")
    client.requests[0].receive(lambda _whole: pytest.fail("it is refused"), limit=2)
    client.turn()
    assert client.got == refused(413, b"", has_begun=True)
