"""One client: pipelining, refusals before the body, disconnects, draining."""

from __future__ import annotations

import pytest

from tests.unit.http.wire import GET, Client, answer, echo, post, refuse, settings, silent
from tsd.http.message import CONTINUE, Request, Response
from tsd.http.reader import DROPPED_BYTES
from tsd.http.refusal import REFUSALS, refused

# Pipelining.


def test_only_so_many_requests_are_handed_on_at_once() -> None:
    client = Client(silent, settings(max_pipelined=3))
    client.send(GET * 5)
    assert len(client.requests) == 3
    assert not client.wire.is_reading()
    client.requests[0].respond(Response(200))
    client.turn()
    assert len(client.requests) == 4
    for request in client.requests[1:4]:
        request.respond(Response(200))
    client.turn()
    client.requests[4].respond(Response(200))
    client.turn()
    assert client.wire.is_reading()
    assert client.got == answer(b"") * 5


def test_a_thousand_pipelined_requests_are_answered_in_order() -> None:
    client = Client()
    asked = [b"GET /%d HTTP/1.1\r\nHost: a\r\n\r\n" % number for number in range(1000)]
    client.send(b"".join(asked) + b"bad\r\n\r\n")
    told_all = [answer(b"GET /%d |" % number) for number in range(1000)]
    assert client.got == b"".join(told_all) + REFUSALS[400]


def test_bytes_that_come_though_nothing_is_read_are_kept_in_order() -> None:
    client = Client(silent, settings(max_pipelined=1))
    client.connection.data_received(GET + GET[:5])
    client.connection.data_received(GET[5:])
    client.requests[0].respond(Response(200))
    client.requests[1].respond(Response(200))
    assert client.got == answer(b"") * 2


def test_the_end_of_the_client_is_seen_while_the_answer_is_made() -> None:
    client = Client(silent)
    client.send(GET)
    assert client.wire.is_reading()


# Expectations.


def test_the_client_is_told_to_continue_when_its_body_is_awaited() -> None:
    for feed in (Client.send, Client.send_bytewise):
        client = Client()
        feed(client, post(3, b"Expect: 100-Continue\r\n"))
        assert client.got == CONTINUE
        feed(client, b"abc")
        assert client.got == CONTINUE + answer(b"POST / abc|")


def test_a_client_that_waits_for_a_place_is_told_when_there_is_one() -> None:
    client = Client(silent)
    client.send(post(3, b"Expect: 100-continue\r\n"))
    assert client.got == b""
    client.requests[0].receive(lambda whole: whole.respond(Response(200)))
    assert client.got == CONTINUE


def test_a_client_that_has_begun_is_not_told_to_continue() -> None:
    client = Client()
    client.send(post(3, b"Expect: 100-continue\r\n") + b"a")
    client.send(b"bc")
    assert client.got == answer(b"POST / abc|")


def test_to_continue_is_told_after_the_answers_that_are_due() -> None:
    client = Client(silent)
    client.send(GET + post(1, b"Expect: 100-continue\r\n"))
    client.requests[1].receive(lambda whole: whole.respond(Response(200, whole.body)))
    client.turn()
    assert client.got == b""
    client.requests[0].respond(Response(200))
    client.turn()
    assert client.got == answer(b"") + CONTINUE
    client.send(b"a")
    assert client.got == answer(b"") + CONTINUE + answer(b"a")


def test_a_refusal_before_the_body_tells_no_client_to_send_it() -> None:
    client = Client(refuse)
    client.send(post(1, b"Expect: 100-continue\r\n"))
    assert client.got == answer(b"", status=404, is_last=True)
    assert client.is_ended


def test_after_the_last_answer_input_is_dropped_until_the_client_ends() -> None:
    client = Client(refuse)
    client.send(post(DROPPED_BYTES + 1))
    assert client.wire.has_written_eof
    client.send(bytes(1000))
    assert not client.wire.is_closing()
    client.end()
    assert client.wire.is_closing()


def test_a_client_that_does_not_end_is_closed_after_a_while() -> None:
    client = Client(refuse)
    client.send(post(DROPPED_BYTES + 1))
    client.wait(1)
    assert not client.wire.is_closing()
    client.wait(1)
    assert client.wire.is_closing()


def test_what_was_sent_behind_the_last_answer_is_dropped() -> None:
    client = Client(lambda request: request.respond(Response(200, is_last=True)))
    client.wire.is_stuck = True
    client.send(GET * 40)
    assert client.got == answer(b"", is_last=True)
    assert client.wire.has_written_eof


# The client goes.


def test_a_client_that_goes_is_told_of_once_and_answers_are_dropped() -> None:
    calls: list[str] = []

    def watch(request: Request) -> None:
        request.on_disconnect = lambda: calls.append("lost")

    client = Client(watch)
    client.send(GET)
    client.go()
    client.requests[0].respond(Response(200, release=lambda: calls.append("free")))
    assert calls == ["lost", "free"]
    assert client.got == b""
    assert client.forgotten == [client.connection]


def test_a_client_that_goes_before_its_body_had_a_place() -> None:
    client = Client(silent)
    client.send(post(3) + b"abc")
    client.go()
    client.requests[0].receive(lambda _whole: pytest.fail("nobody is there"))
    stream = client.requests[0].stream(Response(200))
    assert not stream.is_open


def test_an_answer_that_waited_behind_others_is_freed_when_the_client_goes() -> None:
    calls: list[str] = []
    client = Client(silent)
    client.send(GET + GET)
    second = client.requests[1]
    second.on_disconnect = lambda: calls.append("lost")
    second.respond(Response(200, release=lambda: calls.append("free")))
    client.go()
    client.turn()
    assert calls == ["free"]


def test_a_client_that_only_ends_its_side_is_answered() -> None:
    client = Client(silent)
    client.send(GET + GET)
    client.end()
    assert not client.wire.is_closing()
    for request in client.requests:
        request.respond(Response(200))
    client.turn()
    assert client.got == answer(b"") + answer(b"", is_last=True)
    assert client.wire.is_closing()


def test_an_idle_client_that_ends_its_side_is_closed() -> None:
    for sent in (b"", GET, GET + GET[:10]):
        client = Client()
        client.send(sent)
        client.end()
        assert client.wire.is_closing()


def test_half_a_body_is_no_request_but_those_before_it_are_answered() -> None:
    lost: list[str] = []

    def watch(request: Request) -> None:
        if request.method == "POST":
            request.on_disconnect = lambda: lost.append("lost")
            echo(request)

    client = Client(watch)
    client.send(GET + post(3) + b"ab")
    client.end()
    assert lost == ["lost"]
    client.requests[0].respond(Response(200))
    assert client.got == answer(b"", is_last=True)
    assert client.wire.is_closing()


# Draining.


def test_a_drained_connection_ends_with_its_last_answer() -> None:
    client = Client(silent)
    client.send(GET + GET)
    client.connection.drain()
    client.connection.end_if_idle()
    assert not client.is_ended
    for request in client.requests:
        request.respond(Response(200))
    client.turn()
    assert client.got == answer(b"") + answer(b"", is_last=True)
    assert client.is_ended


def test_an_idle_connection_is_closed_by_draining() -> None:
    client = Client()
    client.send(GET)
    client.wait(1)
    client.connection.drain()
    assert not client.wire.is_closing()
    client.connection.end_if_idle()
    assert client.wire.is_closing()
    client.connection.end_if_idle()


def test_a_drained_client_that_was_just_busy_is_not_reset() -> None:
    client = Client()
    client.send(GET)
    client.connection.drain()
    client.connection.end_if_idle()
    assert client.wire.has_written_eof
    assert not client.wire.is_closing()
    client.send(GET)
    assert client.got == answer(b"GET / |")
    client.wait(1)
    assert client.wire.is_aborted


def test_a_drained_client_that_sees_the_end_is_waited_for_no_longer() -> None:
    client = Client(silent)
    client.send(GET)
    client.connection.drain()
    client.requests[0].respond(Response(200))
    assert client.got == answer(b"", is_last=True)
    assert not client.wire.is_closing()
    client.end()
    assert client.wire.is_closing()


def test_a_drained_client_that_has_said_its_last_is_closed_with_its_answer() -> None:
    client = Client(silent)
    client.send(GET)
    client.connection.drain()
    client.end()
    client.requests[0].respond(Response(200))
    assert client.got == answer(b"", is_last=True)
    assert client.wire.is_closing()


def test_a_request_that_has_begun_is_answered_though_draining() -> None:
    for cut in (10, len(post(3)), len(post(3)) + 1):
        client = Client()
        sent = post(3) + b"abc"
        client.send(sent[:cut])
        client.connection.drain()
        client.connection.end_if_idle()
        client.send(sent[cut:])
        assert client.got == answer(b"POST / abc|", is_last=True)
        assert client.is_ended


def test_all_that_has_been_read_is_answered_though_draining() -> None:
    client = Client(silent, settings(max_pipelined=2))
    client.send(GET * 5)
    client.connection.drain()
    client.connection.end_if_idle()
    while not client.is_ended:
        for request in client.requests:
            if request.answer is None:
                request.respond(Response(200))
        client.turn()
    assert client.got == answer(b"") * 4 + answer(b"", is_last=True)


# Errors of the application.


def test_an_application_that_raises_leaves_the_connection_able_to_go_on() -> None:
    def raise_for_post(request: Request) -> None:
        if request.method == "POST":
            raise RuntimeError("a bug")
        request.respond(Response(200))

    client = Client(raise_for_post)
    with pytest.raises(RuntimeError):
        client.send(post(0))
    client.requests[0].respond(Response(500, is_last=True))
    assert client.got == answer(b"", status=500, is_last=True)


def test_a_second_answer_or_place_is_a_bug() -> None:
    client = Client(silent)
    client.send(GET)
    request = client.requests[0]
    request.receive(lambda _whole: None)
    with pytest.raises(AssertionError):
        request.receive(lambda _whole: None)
    request.respond(Response(200))
    with pytest.raises(AssertionError):
        request.respond(Response(200))
    with pytest.raises(AssertionError):
        request.stream(Response(200))


def test_a_refusal_carries_the_applications_headers() -> None:
    answered = refused(400, b"x-request-id: 1\r\n")
    head, _, body = answered.partition(b"\r\n\r\n")
    assert b"\r\nx-request-id: 1\r\ncontent-type: application/json\r\n" in head + b"\r\n"
    assert body == REFUSALS[400].partition(b"\r\n\r\n")[2]
    assert refused(503, b"x-request-id: 1\r\n") == REFUSALS[503]
