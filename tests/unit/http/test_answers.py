"""Answers: in order, joined, bounded, streamed, and their memory given back."""

from __future__ import annotations

from functools import partial

import pytest

from tests.unit.http.wire import HIGH_WATER, Client, answer
from tsd.http.answers import UNCOPIED_BYTES
from tsd.http.message import REASONS, Request, Response

LARGE = bytes(UNCOPIED_BYTES)


def get(path: str, version: str = "1.1", extra: str = "") -> bytes:
    return f"GET {path} HTTP/{version}\r\nHost: a\r\n{extra}\r\n".encode()


def respond(response: Response, request: Request) -> None:
    request.respond(response)


def silent(request: Request) -> None:
    """Answer later, or not at all."""


@pytest.mark.parametrize("order", [(0, 1, 2), (2, 1, 0), (1, 2, 0), (2, 0, 1)])
def test_answers_leave_in_the_order_of_their_requests(order: tuple[int, ...]) -> None:
    for feed in (Client.send, Client.send_bytewise):
        client = Client(silent)
        feed(client, get("/0") + get("/1") + get("/2"))
        for number in order:
            client.requests[number].respond(Response(200, b"%d" % number))
            client.turn()
        assert client.got == answer(b"0") + answer(b"1") + answer(b"2")


def test_answers_given_at_once_leave_in_one_write() -> None:
    client = Client()
    client.send(get("/a") * 3)
    assert client.wire.writes == [answer(b"GET /a |") * 3]


def test_answers_that_become_ready_in_one_turn_leave_in_one_write() -> None:
    client = Client(silent)
    client.send(get("/a") * 3)
    for request in client.requests:
        request.respond(Response(200))
    assert client.wire.writes == []
    client.turn()
    assert client.wire.writes == [answer(b"") * 3]


def test_joined_answers_do_not_grow_without_bound() -> None:
    half = bytes(UNCOPIED_BYTES // 2)
    client = Client(lambda request: request.respond(Response(200, half)))
    client.send(get("/a") * 5)
    assert [len(written) for written in client.wire.writes] == [2 * len(answer(half))] * 2 + [
        len(answer(half))
    ]


def test_the_bytes_of_an_answer() -> None:
    head = b"content-type: text/plain\r\n"
    client = Client(
        lambda request: request.respond(Response(404, memoryview(b"no"), head, REASONS[404]))
    )
    client.send(get("/"))
    assert client.got == (
        b"HTTP/1.1 404 Not Found\r\ncontent-type: text/plain\r\n"
        b"content-length: 2\r\nconnection: keep-alive\r\n\r\nno"
    )


def test_head_is_answered_with_the_length_and_without_the_body() -> None:
    for body in (b"abc", LARGE):
        client = Client(partial(respond, Response(200, body)))
        client.send(b"HEAD / HTTP/1.1\r\nHost: a\r\n\r\n")
        assert client.got == answer(body)[: -len(body)]


def test_statuses_without_body_have_no_length() -> None:
    for status in (204, 304):
        for body in (b"", b"dropped", LARGE):
            client = Client(partial(respond, Response(status, body)))
            client.send(get("/"))
            assert client.got == b"HTTP/1.1 %d \r\nconnection: keep-alive\r\n\r\n" % status


def test_a_large_body_is_written_as_it_is_and_freed_when_it_has_gone() -> None:
    freed: list[str] = []
    client = Client(
        lambda request: request.respond(
            Response(200, memoryview(LARGE), release=lambda: freed.append("free"))
        )
    )
    client.send(get("/"))
    assert [len(written) for written in client.wire.writes][1:] == [UNCOPIED_BYTES]
    assert client.got == answer(LARGE)
    assert freed == ["free"]


def test_a_large_body_leaves_behind_joined_answers() -> None:
    # The second one's head makes the joined answers so many that they are written at once.
    almost = bytes(UNCOPIED_BYTES - len(answer(b"")) - 20)
    client = Client(
        lambda request: request.respond(Response(200, almost if request.path == "/a" else LARGE))
    )
    client.send(get("/a") + get("/b"))
    assert client.got == answer(almost) + answer(LARGE)
    assert len(client.wire.writes) == 2


def test_a_large_body_stays_until_the_client_has_taken_it() -> None:
    freed: list[str] = []
    client = Client(
        lambda request: request.respond(
            Response(200, LARGE, release=lambda: freed.append(request.path))
        )
    )
    client.wire.is_stuck = True
    client.send(get("/a") + get("/b"))
    assert freed == []
    assert not client.wire.is_reading()
    client.wire.take()
    assert freed == ["/a"]
    client.wire.take()
    assert freed == ["/a", "/b"]
    assert client.got == answer(LARGE) * 2
    assert client.wire.is_reading()
    assert client.wire.high == HIGH_WATER


def test_a_large_body_is_freed_once_when_the_client_goes() -> None:
    freed: list[str] = []
    client = Client(
        lambda request: request.respond(Response(200, LARGE, release=lambda: freed.append("free")))
    )
    client.wire.is_stuck = True
    client.send(get("/a") + get("/b"))
    client.go()
    assert freed == ["free", "free"]


def test_a_small_body_is_copied_and_freed_at_once() -> None:
    freed: list[str] = []
    client = Client(
        lambda request: request.respond(Response(200, b"a", release=lambda: freed.append("free")))
    )
    client.wire.is_stuck = True
    client.send(get("/"))
    assert freed == ["free"]


def test_a_client_that_does_not_read_is_neither_read_nor_answered_any_more() -> None:
    client = Client(lambda request: request.respond(Response(200, bytes(HIGH_WATER))))
    client.wire.is_stuck = True
    client.send(get("/a"))
    client.send(get("/b") + get("/c"))
    assert len(client.requests) == 1
    assert not client.wire.is_reading()
    client.wire.is_stuck = False
    client.wire.take()
    client.turn()
    assert len(client.requests) == 3
    assert client.got == answer(bytes(HIGH_WATER)) * 3


def test_requests_in_the_same_read_wait_while_the_client_does_not_read() -> None:
    client = Client(lambda request: request.respond(Response(200, LARGE)))
    client.wire.is_stuck = True
    client.send(get("/a") * 40)
    assert client.got == answer(LARGE)
    for _request in range(39):
        client.wire.take()
    client.wire.is_stuck = False
    client.wire.take()
    assert client.got == answer(LARGE) * 40


def test_an_answer_may_end_the_connection_and_what_was_asked_behind_it() -> None:
    lost: list[str] = []

    def first_is_last(request: Request) -> None:
        request.on_disconnect = lambda: lost.append(request.path)
        if request.path == "/a":
            request.respond(Response(500, is_last=True))

    client = Client(first_is_last)
    client.send(get("/a") + get("/b") + get("/c"))
    assert client.got == answer(b"", status=500, is_last=True)
    assert client.wire.is_closing()
    assert lost == ["/b", "/c"]


def test_memory_for_answers_may_let_another_request_of_the_connection_go_on() -> None:
    client = Client(silent)
    post = b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nab"
    client.send(get("/") + post)
    waiting = client.requests[1]

    def room_is_free() -> None:
        waiting.receive(lambda whole: whole.respond(Response(200, whole.body)))

    client.requests[0].respond(Response(200, b"x", release=room_is_free))
    client.turn()
    assert client.got == answer(b"x") + answer(b"ab")


STREAM_HEAD = (
    b"HTTP/1.1 200 \r\nx: y\r\ntransfer-encoding: chunked\r\nconnection: keep-alive\r\n\r\n"
)


def test_a_stream_is_sent_in_chunks_as_they_come() -> None:
    client = Client(silent)
    client.send(get("/a") + get("/b"))
    stream = client.requests[0].stream(Response(200, b"ignored", b"x: y\r\n"))
    client.turn()
    assert client.got == STREAM_HEAD
    stream.send(b"abc")
    stream.send(b"")
    client.turn()
    assert client.got == STREAM_HEAD + b"3\r\nabc\r\n"
    client.requests[1].respond(Response(200))
    client.turn()
    stream.end()
    client.turn()
    assert client.got == STREAM_HEAD + b"3\r\nabc\r\n0\r\n\r\n" + answer(b"")
    assert not stream.is_open
    stream.end()
    stream.send(b"late")
    assert client.got.endswith(answer(b""))


def test_a_stream_waits_for_the_answers_before_it() -> None:
    client = Client(silent)
    client.send(get("/a") + get("/b"))
    stream = client.requests[1].stream(Response(200, head=b"x: y\r\n"))
    stream.send(b"abc")
    stream.end()
    client.turn()
    assert stream.wants_pause
    client.requests[0].respond(Response(200))
    client.turn()
    assert client.got == answer(b"") + STREAM_HEAD + b"3\r\nabc\r\n0\r\n\r\n"


def test_a_stream_to_an_old_client_ends_with_the_connection() -> None:
    client = Client(silent)
    client.send(get("/", "1.0", "Connection: keep-alive\r\n"))
    stream = client.requests[0].stream(Response(200))
    stream.send(b"abc")
    assert not client.wire.is_closing()
    stream.end()
    assert client.got == b"HTTP/1.1 200 \r\nconnection: close\r\n\r\nabc"
    assert client.wire.is_closing()


def test_a_stream_for_head_has_no_body() -> None:
    client = Client(silent)
    client.send(b"HEAD / HTTP/1.1\r\nHost: a\r\n\r\n")
    stream = client.requests[0].stream(Response(200, head=b"x: y\r\n"))
    stream.send(b"abc")
    stream.end()
    assert client.got == STREAM_HEAD


def test_a_stream_asks_for_a_pause_when_the_client_does_not_read() -> None:
    client = Client(silent)
    client.send(get("/"))
    stream = client.requests[0].stream(Response(200, head=b"x: y\r\n"))
    client.wire.is_stuck = True
    stream.send(bytes(HIGH_WATER + 1))
    assert stream.wants_pause
    stream.send(b"more")
    client.wire.is_stuck = False
    client.wire.take()
    assert client.got.endswith(b"4\r\nmore\r\n")


def test_a_stream_asks_for_no_pause_while_the_client_reads() -> None:
    client = Client(silent)
    client.send(get("/"))
    stream = client.requests[0].stream(Response(200))
    stream.send(bytes(HIGH_WATER + 1))
    assert not stream.wants_pause


def test_a_stream_ends_when_the_client_goes() -> None:
    calls: list[str] = []
    client = Client(silent)
    client.send(get("/"))
    request = client.requests[0]
    request.on_disconnect = lambda: calls.append("lost")
    stream = request.stream(Response(200, release=lambda: calls.append("free")))
    client.go()
    assert not stream.is_open
    assert calls == ["free", "lost"]
    stream.send(b"late")
    stream.end()


def test_the_memory_of_a_stream_is_given_back_at_its_end() -> None:
    freed: list[str] = []
    client = Client(silent)
    client.send(get("/"))
    stream = client.requests[0].stream(Response(200, release=lambda: freed.append("free")))
    assert freed == []
    stream.end()
    assert freed == ["free"]


def test_each_answer_is_counted_and_told_once_it_is_written() -> None:
    client = Client(silent)
    client.send(get("/a") + get("/b") + get("/c"))
    first, second, third = client.requests
    third.respond(Response(404))
    second.respond(Response(503, LARGE))
    client.turn()
    assert client.told == []
    first.respond(Response(200))
    client.turn()
    assert client.told == [("/a", 200), ("/b", 503), ("/c", 404)]
    assert client.answered == {2: 1, 5: 1, 4: 1}


def test_an_answer_in_parts_is_counted_at_its_end() -> None:
    client = Client(silent)
    client.send(get("/a"))
    stream = client.requests[0].stream(Response(200))
    stream.send(b"a")
    client.turn()
    assert client.answered == {}
    stream.end()
    client.turn()
    assert (client.answered, client.told) == ({2: 1}, [("/a", 200)])


def test_an_answer_that_nobody_waits_for_is_not_counted() -> None:
    client = Client(silent)
    client.send(get("/a"))
    client.go()
    client.requests[0].respond(Response(200))
    assert client.answered == {}
