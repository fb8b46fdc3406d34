"""Bodies: chunked ones to the letter, large ones on the heap, refused ones, rooms."""

from __future__ import annotations

from functools import partial

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.http.wire import Client, answer, post, settings
from tsd.http.body import Heap
from tsd.http.message import Request, Response
from tsd.http.refusal import REFUSALS, refused

CHUNKED = b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"

BAD_CHUNKS = {
    "sign": b"+1\r\na\r\n0\r\n\r\n",
    "minus": b"-1\r\na\r\n0\r\n\r\n",
    "prefix": b"0x1\r\na\r\n0\r\n\r\n",
    "blank before": b" 1\r\na\r\n0\r\n\r\n",
    "blank after": b"1 \r\na\r\n0\r\n\r\n",
    "no size": b"\r\na\r\n0\r\n\r\n",
    "no digits": b"g\r\na\r\n0\r\n\r\n",
    "underscore": b"1_0\r\na\r\n0\r\n\r\n",
    "overflow": b"10000000000000001\r\na\r\n0\r\n\r\n",
    "bare LF after the size": b"1\na\r\n0\r\n\r\n",
    "bare CR in an extension": b"1;a\rb\r\na\r\n0\r\n\r\n",
    "NUL in an extension": b"1;a\0\r\na\r\n0\r\n\r\n",
    "longer than said": b"1\r\nab\r\n0\r\n\r\n",
    "shorter than said": b"3\r\na\r\n0\r\n\r\n\r\n",
    "bare LF after the data": b"1\r\na\n0\r\n\r\n",
    "bad trailer": b"1\r\na\r\n0\r\nbad trailer\r\n\r\n",
    "folded trailer": b"1\r\na\r\n0\r\nX: a\r\n b\r\n\r\n",
    "bare LF after a trailer": b"1\r\na\r\n0\r\nX: a\n\r\n",
    "bare LF at the end": b"1\r\na\r\n0\r\n\n",
}


@pytest.mark.parametrize("name", BAD_CHUNKS)
def test_chunks_that_are_not_exact_are_refused_and_the_request_is_withdrawn(name: str) -> None:
    for feed in (Client.send, Client.send_bytewise):
        lost: list[str] = []
        client = Client(partial(receive, lost=lost))
        feed(client, CHUNKED + BAD_CHUNKS[name])
        assert client.got == REFUSALS[400]
        assert client.is_ended
        assert lost == ["lost"]


def receive(request: Request, lost: list[str]) -> None:
    request.on_disconnect = lambda: lost.append("lost")
    request.receive(lambda whole: whole.respond(Response(200, bytes(whole.body))))


def test_bodies_without_a_room_are_bounded_in_sum_until_nobody_holds_them() -> None:
    held: list[bytes | bytearray | memoryview] = []

    def hold(request: Request) -> None:
        request.receive(lambda whole: held.append(whole.body))

    heap, limits = Heap(), settings(max_heap_bytes=100, max_request_bytes=90)
    first = Client(hold, limits=limits, heap=heap)
    first.send(CHUNKED + b"28\r\n" + b"a" * 40 + b"\r\n")
    sized = Client(hold, limits=limits, heap=heap)
    sized.send(post(40) + b"b" * 20)
    sized.send(b"b" * 20)
    assert heap.used_bytes == 80
    refused_one = Client(hold, limits=limits, heap=heap)
    refused_one.send(CHUNKED + b"28\r\n" + b"c" * 40)
    assert refused_one.got == REFUSALS[503]
    assert heap.used_bytes == 80
    first.send(b"0\r\n\r\n")
    assert held == [b"b" * 40, b"a" * 40]
    held.clear()
    first.requests.pop().respond(Response(200))
    assert heap.used_bytes == 40
    sized.go()
    sized.requests.clear()
    assert heap.used_bytes == 0


def test_the_largest_body_has_room_on_the_heap_when_it_is_alone() -> None:
    client = Client(limits=settings(max_heap_bytes=10, max_request_bytes=100))
    client.send(CHUNKED + b"64\r\n" + b"a" * 100 + b"\r\n0\r\n\r\n")
    assert client.got == answer(b"POST / %b|" % (b"a" * 100))


@given(
    chunks=st.lists(st.binary(min_size=1, max_size=50), max_size=8),
    cuts=st.lists(st.integers(0, 400)),
)
def test_chunks_become_one_body(chunks: list[bytes], cuts: list[int]) -> None:
    framed = b"".join(b"%X\r\n%b\r\n" % (len(chunk), chunk) for chunk in chunks)
    sent = CHUNKED + framed + b"0\r\n\r\n"
    client = Client(lambda request: receive(request, []))
    client.send(sent, [cut for cut in cuts if cut < len(sent)])
    assert client.got == answer(b"".join(chunks))


def test_the_bytes_around_chunks_are_bounded() -> None:
    limits = settings(max_header_bytes=100, max_headers_bytes=300)
    bad = {
        "extension": b"1;" + b"x" * 100 + b"\r\n",
        "size without end": b"0" * 200,
        "extensions": b"".join(b"1;%b\r\na\r\n" % (b"x" * 90) for _ in range(4)),
        "trailers": b"0\r\n" + b"X: %b\r\n" % (b"y" * 80) * 4,
    }
    for name, framed in bad.items():
        client = Client(limits=limits)
        client.send(CHUNKED + framed)
        assert client.got == REFUSALS[431], name


def test_an_application_may_bound_a_body_below_the_limit() -> None:
    def strict(request: Request) -> None:
        request.receive(lambda whole: whole.respond(Response(200)), limit=3)

    for framing, body, expected in (
        (b"Content-Length: 3", b"abc", answer(b"")),
        (b"Content-Length: 4", b"abcd", refused(413, has_begun=True)),
        (b"Transfer-Encoding: chunked", b"3\r\nabc\r\n0\r\n\r\n", answer(b"")),
        (b"Transfer-Encoding: chunked", b"4\r\nabcd\r\n0\r\n\r\n", refused(413, has_begun=True)),
    ):
        client = Client(strict)
        client.send(b"POST / HTTP/1.1\r\nHost: a\r\n" + framing + b"\r\n\r\n" + body)
        assert client.got == expected


@given(size=st.integers(1, 300), cuts=st.lists(st.integers(0, 400)))
def test_a_body_goes_into_its_room_and_not_beyond_it(size: int, cuts: list[int]) -> None:
    memory = bytearray(size + 1)
    room = memoryview(memory)[:size]

    def into_room(request: Request) -> None:
        if request.content_length:
            request.receive(lambda whole: whole.respond(Response(200, whole.body)), room)
        else:
            request.respond(Response(200, b"next"))

    client = Client(into_room)
    body = bytes(range(1, 256)) * 2
    head = b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n" % size
    client.send(head + body[:size] + b"GET / HTTP/1.1\r\nHost: a\r\n\r\n", cuts)
    assert client.requests[0].body is room
    assert memory == body[:size] + b"\0"
    assert client.got == answer(body[:size]) + answer(b"next")


def test_a_room_has_exactly_the_length_of_the_body() -> None:
    for head in (b"Content-Length: 3", b"Transfer-Encoding: chunked"):
        client = Client(lambda _request: None)
        client.send(b"POST / HTTP/1.1\r\nHost: a\r\n" + head + b"\r\n\r\n")
        with pytest.raises(ValueError, match="a room of 4 bytes"):
            client.requests[0].receive(lambda _request: None, memoryview(bytearray(4)))


def test_a_large_body_is_collected_on_the_heap() -> None:
    client = Client(lambda request: receive(request, []))
    body = bytes(1_000_000)
    head = b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1000000\r\n\r\n"
    client.send(head + body, range(0, 1_000_000, 70_000))
    assert client.requests[0].body == body
    assert client.wire.switches == []
