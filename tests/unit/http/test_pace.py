"""Time: slow heads, slow bodies, idle connections, readers that do not read."""

from __future__ import annotations

from tests.unit.http.wire import HIGH_WATER, Client, answer
from tsd.http.message import Request, Response
from tsd.http.refusal import REFUSALS

GET = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"


def post(size: int) -> bytes:
    return b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n" % size


def silent(request: Request) -> None:
    """Answer later, or not at all."""


def test_a_connection_that_says_nothing_is_closed_silently() -> None:
    client = Client()
    client.wait(10)
    assert not client.wire.is_closing()
    client.wait(1)
    assert client.wire.is_closing()
    assert client.got == b""


def test_an_idle_connection_is_closed_silently() -> None:
    client = Client()
    client.send(GET)
    client.wait(76)
    assert not client.wire.is_closing()
    client.wait(1)
    assert client.wire.is_closing()
    assert client.got == answer(b"GET / |")


def test_each_request_keeps_the_connection_alive() -> None:
    client = Client()
    for _round in range(3):
        client.wait(9)
        client.send(GET)
        client.wait(60)
    assert not client.wire.is_closing()


def test_a_head_has_its_time_as_a_whole() -> None:
    client = Client()
    for byte in GET[:11]:
        client.send(bytes([byte]))
        assert client.got == b""
        client.wait(1)
    assert client.got == REFUSALS[408]
    assert client.is_ended
    assert client.refusals == [408]


def test_a_slow_head_is_refused_after_the_answers_due() -> None:
    client = Client(silent)
    client.send(GET + GET[:5])
    client.wait(11)
    assert client.got == b""
    client.requests[0].respond(Response(200))
    assert client.got == answer(b"") + REFUSALS[408]
    assert client.is_ended


def test_a_body_is_given_grace_and_then_a_rate() -> None:
    client = Client()
    client.send(post(100_000) + bytes(240 * 5))
    client.wait(15)
    assert client.got == b""
    client.wait(1)
    assert client.got == REFUSALS[408]
    assert client.is_ended


def test_a_body_at_the_rate_is_awaited() -> None:
    client = Client()
    client.send(post(240 * 100))
    for _second in range(99):
        client.send(bytes(240))
        client.wait(1)
    assert client.got == b""
    client.send(bytes(240))
    assert client.got.startswith(b"HTTP/1.1 200")


def test_the_time_of_a_body_begins_with_its_place() -> None:
    client = Client(silent)
    client.send(post(1000) + b"a")
    client.wait(60)
    assert client.got == b""
    client.requests[0].receive(lambda _whole: None)
    client.wait(10)
    assert client.got == b""
    client.wait(2)
    assert client.got == REFUSALS[408]


def test_a_refused_body_that_does_not_come_ends_the_connection() -> None:
    client = Client(lambda request: request.respond(Response(404)))
    client.send(post(1000))
    client.wait(11)
    assert client.got == answer(b"", status=404)
    assert client.is_ended


def test_a_client_that_waits_for_an_answer_is_not_idle() -> None:
    client = Client(silent)
    client.send(GET)
    client.wait(1000)
    assert not client.wire.is_closing()


def test_a_reader_without_progress_is_dropped() -> None:
    client = Client(lambda request: request.respond(Response(200, bytes(2 * HIGH_WATER))))
    client.wire.is_stuck = True
    client.send(GET)
    client.wait(25)
    client.wire.take(100)
    client.wait(30)
    assert not client.wire.is_closing()
    client.wait(2)
    assert client.wire.is_closing()


def test_a_reader_without_progress_is_dropped_though_little_waits_for_it() -> None:
    client = Client(lambda request: request.respond(Response(200, is_last=True)))
    client.wire.is_stuck = True
    client.send(GET)
    client.wait(30)
    assert not client.wire.is_aborted
    client.wait(1)
    assert client.wire.unsent == 0


def test_an_answer_after_a_long_rest_has_its_own_time_to_leave() -> None:
    client = Client()
    client.send(GET)
    client.wait(40)
    client.wire.is_stuck = True
    client.send(GET)
    client.wait(1)
    assert not client.wire.is_aborted
    client.wait(40)
    assert client.wire.is_aborted
