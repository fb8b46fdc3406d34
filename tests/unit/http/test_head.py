"""Heads: what is read from them, what is refused, and the limits to the byte."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.http.wire import Client, answer, echo, settings
from tsd.http.head import KNOWN_HEADS, SEEN_HEADS, KnownHeads
from tsd.http.message import Request, Response
from tsd.http.refusal import REFUSALS, refused

HOST = b"Host: a\r\n"
GET = b"GET / HTTP/1.1\r\n"
POST = b"POST / HTTP/1.1\r\n" + HOST

# Requests, and the answers of an application that tells what it was asked.
GOOD = {
    "get": (GET + HOST + b"\r\n", answer(b"GET / |")),
    "query": (
        b"GET /a?b=c HTTP/1.1\r\n" + HOST + b"\r\n",
        answer(b"GET /a |"),
    ),
    "blank line before": (b"\r\n" + GET + HOST + b"\r\n", answer(b"GET / |")),
    "post": (POST + b"Content-Length: 3\r\n\r\nabc", answer(b"POST / abc|")),
    "empty post": (POST + b"Content-Length: 0\r\n\r\n", answer(b"POST / |")),
    "chunked": (
        POST + b"Transfer-Encoding: Chunked\r\n\r\n3;x=y\r\nabc\r\n02\r\nde\r\n0\r\nT: x\r\n\r\n",
        answer(b"POST / abcde|"),
    ),
    "two": (
        POST + b"Content-Length: 3\r\n\r\nabc" + GET + HOST + b"\r\n",
        answer(b"POST / abc|") + answer(b"GET / |"),
    ),
    "chunked, then another": (
        POST + b"Transfer-Encoding: chunked\r\n\r\n1\r\na\r\n0\r\n\r\n" + GET + HOST + b"\r\n",
        answer(b"POST / a|") + answer(b"GET / |"),
    ),
    "1.0": (b"GET / HTTP/1.0\r\n\r\n", answer(b"GET / |", is_last=True)),
    "1.0 kept": (b"GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n", answer(b"GET / |")),
    "close": (GET + HOST + b"Connection: close\r\n\r\n", answer(b"GET / |", is_last=True)),
    "close with body": (
        POST + b"Connection: close\r\nContent-Length: 1\r\n\r\na",
        answer(b"POST / a|", is_last=True),
    ),
    "close among tokens": (
        GET + HOST + b"Connection: foo, Close\r\n\r\n",
        answer(b"GET / |", is_last=True),
    ),
    "absolute": (b"GET http://a:80/b?c HTTP/1.1\r\n" + HOST + b"\r\n", answer(b"GET /b |")),
    "absolute, no path": (b"GET http://a HTTP/1.1\r\n" + HOST + b"\r\n", answer(b"GET / |")),
    "absolute, query only": (b"GET http://a?x HTTP/1.1\r\n" + HOST + b"\r\n", answer(b"GET / |")),
    "asterisk": (b"OPTIONS * HTTP/1.1\r\n" + HOST + b"\r\n", answer(b"OPTIONS * |")),
    "upgrade is not taken up": (
        GET + HOST + b"Connection: Upgrade\r\nUpgrade: h2c\r\n\r\n" + GET + HOST + b"\r\n",
        answer(b"GET / |") * 2,
    ),
    "upgrade with body": (
        POST
        + b"Connection: Upgrade\r\nUpgrade: h2c\r\nContent-Length: 2\r\n\r\nab"
        + GET
        + HOST
        + b"\r\n",
        answer(b"POST / ab|") + answer(b"GET / |"),
    ),
    "IPv6 host": (GET + b"Host: [::1]:8080\r\n\r\n", answer(b"GET / |")),
    "blanks around a length": (POST + b"Content-Length: \t 1 \t\r\n\r\na", answer(b"POST / a|")),
    "1.0 is not told to continue": (
        b"POST / HTTP/1.0\r\nContent-Length: 1\r\nExpect: 100-continue\r\n\r\na",
        answer(b"POST / a|", is_last=True),
    ),
}

# What is no valid request, by RFC 9110 and RFC 9112, and the status that says so.
BAD = {
    # Start lines.
    "not HTTP": (b"\x16\x03\x01\x02\x00\x01", 400),
    "no such method": (b"FETCH / HTTP/1.1\r\n" + HOST + b"\r\n", 400),
    "lower-case method": (b"get / HTTP/1.1\r\n" + HOST + b"\r\n", 400),
    "tab after the method": (b"GET\t/ HTTP/1.1\r\n" + HOST + b"\r\n", 400),
    "no target": (b"GET HTTP/1.1\r\n" + HOST + b"\r\n", 400),
    "relative target": (b"GET a/b HTTP/1.1\r\n" + HOST + b"\r\n", 400),
    "asterisk with GET": (b"GET * HTTP/1.1\r\n" + HOST + b"\r\n", 400),
    "authority form": (b"CONNECT a:80 HTTP/1.1\r\n" + HOST + b"\r\n", 501),
    "authority form with GET": (b"GET a:80 HTTP/1.1\r\n" + HOST + b"\r\n", 400),
    "fragment": (b"GET /a#b HTTP/1.1\r\n" + HOST + b"\r\n", 400),
    "control character in the target": (b"GET /\x01 HTTP/1.1\r\n" + HOST + b"\r\n", 400),
    "raw UTF-8 in the target": (b"GET /\xc3\xa4 HTTP/1.1\r\n" + HOST + b"\r\n", 400),
    "other scheme": (b"GET ftp://a/b HTTP/1.1\r\n" + HOST + b"\r\n", 400),
    "absolute with user": (b"GET http://u@a/b HTTP/1.1\r\n" + HOST + b"\r\n", 400),
    "lower-case version": (b"GET / http/1.1\r\n" + HOST + b"\r\n", 400),
    "no version": (b"GET /\r\n\r\n", 505),
    "version 0.9": (b"GET / HTTP/0.9\r\n" + HOST + b"\r\n", 505),
    "version 1.2": (b"GET / HTTP/1.2\r\n" + HOST + b"\r\n", 505),
    "version 2.0": (b"GET / HTTP/2.0\r\n" + HOST + b"\r\n", 505),
    "version 9.9": (b"GET / HTTP/9.9\r\n" + HOST + b"\r\n", 505),
    "bare LF after the start line": (b"GET / HTTP/1.1\n" + HOST + b"\r\n", 400),
    "bare CR in the start line": (b"GET /\r HTTP/1.1\r\n" + HOST + b"\r\n", 400),
    "only blank lines": (b"\r\n\r\n\r\n", 400),
    # Headers.
    "bare LF after a header": (GET + b"Host: a\n\r\n", 400),
    "bare LF at the end": (GET + b"Host: a\r\n\n", 400),
    "bare CR in a value": (GET + HOST + b"X: a\rb\r\n\r\n", 400),
    "NUL in a value": (GET + HOST + b"X: a\0b\r\n\r\n", 400),
    "control character in a value": (GET + HOST + b"X: a\x01b\r\n\r\n", 400),
    "DEL in a value": (GET + HOST + b"X: a\x7fb\r\n\r\n", 400),
    "NUL in a name": (GET + HOST + b"X\0: a\r\n\r\n", 400),
    "parenthesis in a name": (GET + HOST + b"X(: a\r\n\r\n", 400),
    "blank before the colon": (GET + HOST + b"X : a\r\n\r\n", 400),
    "no name": (GET + HOST + b": a\r\n\r\n", 400),
    "no colon": (GET + HOST + b"abc\r\n\r\n", 400),
    "folded line": (GET + HOST + b"X: a\r\n b\r\n\r\n", 400),
    "blank before the first header": (GET + b" X: a\r\n" + HOST + b"\r\n", 400),
    # Host.
    "no host": (GET + b"\r\n", 400),
    "two hosts": (GET + HOST + HOST + b"\r\n", 400),
    "empty host": (GET + b"Host:\r\n\r\n", 400),
    "host with a path": (GET + b"Host: a/b\r\n\r\n", 400),
    "host with a user": (GET + b"Host: u@a\r\n\r\n", 400),
    "list of hosts": (GET + b"Host: a, b\r\n\r\n", 400),
    "host with a wordy port": (GET + b"Host: a:b\r\n\r\n", 400),
    "1.0 with a bad host": (b"GET / HTTP/1.0\r\nHost: a/b\r\n\r\n", 400),
    # Framing.
    "two lengths": (POST + b"Content-Length: 1\r\nContent-Length: 2\r\n\r\nab", 400),
    "the same length twice": (POST + b"Content-Length: 1\r\nContent-Length: 1\r\n\r\na", 400),
    "list of lengths": (POST + b"Content-Length: 5,5\r\n\r\nabcde", 400),
    "signed length": (POST + b"Content-Length: +1\r\n\r\na", 400),
    "negative length": (POST + b"Content-Length: -1\r\n\r\na", 400),
    "hexadecimal length": (POST + b"Content-Length: 0x1\r\n\r\na", 400),
    "leading zero": (POST + b"Content-Length: 01\r\n\r\na", 400),
    "two numbers": (POST + b"Content-Length: 1 1\r\n\r\na", 400),
    "underscore in a length": (POST + b"Content-Length: 1_0\r\n\r\n0123456789", 400),
    "no digits": (POST + b"Content-Length: \r\n\r\n", 400),
    "length beyond 64 bits": (POST + b"Content-Length: 18446744073709551617\r\n\r\na", 400),
    "forged length": (POST + b"Content_Length: 1\r\n\r\n", 400),
    "forged coding": (POST + b"Transfer_Encoding: chunked\r\n\r\n", 400),
    "length and coding": (
        POST + b"Content-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        400,
    ),
    "coding and length": (
        POST + b"Transfer-Encoding: chunked\r\nContent-Length: 1\r\n\r\n0\r\n\r\n",
        400,
    ),
    "other coding": (POST + b"Transfer-Encoding: gzip\r\n\r\n", 400),
    "two codings": (POST + b"Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n", 400),
    "chunked twice": (POST + b"Transfer-Encoding: chunked, chunked\r\n\r\n0\r\n\r\n", 400),
    "two coding headers": (
        POST + b"Transfer-Encoding: gzip\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        400,
    ),
    "misspelt coding": (POST + b"Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n", 400),
    "chunked in 1.0": (
        b"POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        400,
    ),
    "other expectation": (POST + b"Expect: 200-ok\r\nContent-Length: 1\r\n\r\na", 417),
    "body over the limit": (POST + b"Content-Length: 6553501\r\n\r\n", 413),
}


@pytest.mark.parametrize("name", GOOD)
def test_requests_are_read_and_answered_however_they_are_cut(name: str) -> None:
    sent, expected = GOOD[name]
    for feed in (Client.send, Client.send_bytewise):
        client = Client()
        feed(client, sent)
        assert client.got == expected
        assert client.is_ended == (b"connection: close" in expected)


@given(data=st.data())
def test_requests_are_read_in_any_pieces(data: st.DataObject) -> None:
    sent, expected = GOOD[data.draw(st.sampled_from(sorted(GOOD)))]
    client = Client()
    client.send(sent, data.draw(st.lists(st.integers(0, len(sent)))))
    assert client.got == expected


@pytest.mark.parametrize("name", BAD)
def test_what_is_no_request_is_refused_once_and_never_handled(name: str) -> None:
    sent, status = BAD[name]
    for feed in (Client.send, Client.send_bytewise):
        client = Client()
        feed(client, sent + GET + HOST + b"\r\n")
        assert client.got == REFUSALS[status]
        assert client.is_ended
        assert client.requests == []
        assert client.refusals == [status]


@given(data=st.data())
def test_refusals_come_after_the_answers_due_however_the_bytes_are_cut(data: st.DataObject) -> None:
    bad, status = BAD[data.draw(st.sampled_from(sorted(BAD)))]
    sent = GOOD["two"][0] + bad
    client = Client()
    client.send(sent, data.draw(st.lists(st.integers(0, len(sent)))))
    assert client.got == GOOD["two"][1] + REFUSALS[status]


def test_the_preface_of_http_2_is_refused() -> None:
    for feed in (Client.send, Client.send_bytewise):
        client = Client()
        feed(client, b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")
        assert client.got in (REFUSALS[400], REFUSALS[505])
        assert client.is_ended


def test_the_refusal_of_malformed_http_is_what_torchserve_clients_know() -> None:
    body = (
        b'{\n  "code": 400,\n  "type": "BadRequestException",\n'
        b'  "message": "Invalid HTTP message."\n}\n'
    )
    assert REFUSALS[400] == (
        b"HTTP/1.1 400 Bad Request\r\ncontent-type: application/json\r\n"
        b"content-length: %d\r\nconnection: close\r\n\r\n%b" % (len(body), body)
    )


def test_a_body_over_the_limit_is_refused_as_by_torchserve() -> None:
    client = Client()
    client.send(POST + b"Expect: 100-continue\r\nContent-Length: 6553501\r\n\r\n")
    assert client.got == b"HTTP/1.1 413 Request Entity Too Large\r\ncontent-length: 0\r\n\r\n"


def test_the_limits_hold_to_the_byte() -> None:
    limits = settings(
        max_request_bytes=5, max_target_bytes=20, max_header_bytes=40, max_headers_bytes=90
    )
    start = len(b"GET  HTTP/1.1\r\nHost: a\r\n\r\n")
    ok = {
        "target": b"GET /%b HTTP/1.1\r\nHost: a\r\n\r\n" % (b"x" * 19),
        "header": GET + HOST + b"X: %b\r\n\r\n" % (b"y" * 39),
        "headers": GET + HOST + b"X:%b\r\n\r\n" % (b" " * (90 - start - 4)),
        "body": POST + b"Content-Length: 5\r\n\r\n12345",
        "chunks": POST + b"Transfer-Encoding: chunked\r\n\r\n2\r\nab\r\n3\r\ncde\r\n0\r\n\r\n",
    }
    over = {
        "target": (ok["target"].replace(b"/", b"/x", 1), 414),
        "header": (ok["header"].replace(b"X: ", b"X: y"), 431),
        "headers": (ok["headers"].replace(b"X: ", b"X:  "), 431),
        "body": (POST + b"Content-Length: 6\r\n\r\n", 413),
        "chunks": (ok["chunks"].replace(b"3\r\ncde", b"4\r\ncdef"), 413),
    }
    for feed in (Client.send, Client.send_bytewise):
        for name, sent in ok.items():
            client = Client(limits=limits)
            feed(client, sent)
            assert client.got.startswith(b"HTTP/1.1 200"), name
        for name, (sent, status) in over.items():
            client = Client(limits=limits)
            feed(client, sent)
            assert client.got == refused(status, has_begun=name == "chunks"), name


def test_the_number_of_headers_is_limited() -> None:
    for count, expected in ((3, b"HTTP/1.1 200"), (4, b"HTTP/1.1 431")):
        client = Client(limits=settings(max_headers=3))
        client.send(GET + HOST + b"X: y\r\n" * (count - 1) + b"\r\n")
        assert client.got.startswith(expected)


def test_a_head_without_end_is_refused_at_the_limit() -> None:
    for endless in (b"GET /" + b"x" * 40_000, GET + b"X: " + b"y" * 80_000):
        client = Client()
        client.send(endless, range(0, len(endless), 1000))
        assert client.got in (REFUSALS[414], REFUSALS[431])
        assert client.is_ended


def test_a_request_shows_its_head() -> None:
    client = Client()
    client.send(b"GET /p%20q?r=s HTTP/1.1\r\nHost: a\r\nx-A: 1\r\nX-a: 2 \r\n\r\n")
    request = client.requests[0]
    assert (request.method, request.target) == ("GET", b"/p%20q?r=s")
    assert (request.path, request.query) == ("/p%20q", "r=s")
    assert request.headers == [(b"Host", b"a"), (b"x-A", b"1"), (b"X-a", b"2")]
    assert request.header(b"x-a") == b"2"
    assert request.header(b"x-b") is None
    assert (request.door, request.remote, request.peer) == ("http", "127.0.0.1:1234", None)
    assert request.accepted_at == client.now


def test_a_head_seen_before_is_known_again_and_gives_a_new_request() -> None:
    client = Client()
    sent = POST + b"Content-Length: 1\r\n\r\n"
    client.send(sent + b"a" + sent + b"b" + sent + b"c")
    assert client.got == b"".join(answer(b"POST / %b|" % body) for body in (b"a", b"b", b"c"))
    assert len({id(request) for request in client.requests}) == 3


def test_no_more_heads_are_remembered_than_the_bound() -> None:
    client = Client(lambda request: request.respond(Response(204)))
    for number in range(KNOWN_HEADS + 2):
        client.send(b"GET /%d HTTP/1.1\r\nHost: a\r\n\r\n" % number)
        client.send(b"GET /%d HTTP/1.1\r\nHost: a\r\n\r\n" % (number % 2))
        client.send(b"GET /%d HTTP/1.1\r\nHost: a\r\n\r\n" % number)
    assert 0 < len(client.known_heads.heads) < KNOWN_HEADS


def test_a_head_that_many_connections_send_is_remembered_for_all() -> None:
    known = KnownHeads()
    for _connection in range(2):
        client = Client(known_heads=known)
        client.send((GET + HOST + b"\r\n") * 2)
        assert client.got == answer(b"GET / |") * 2
    assert list(known.heads) == [GET + HOST + b"\r\n"]


def test_heads_that_come_once_are_not_remembered() -> None:
    client = Client(lambda request: request.respond(Response(204)))
    for number in range(SEEN_HEADS + 1):
        client.send(b"GET /%d HTTP/1.1\r\nHost: a\r\n\r\n" % number)
    # The first one's hash has made room for others.
    client.send(b"GET /0 HTTP/1.1\r\nHost: a\r\n\r\n")
    assert client.known_heads.heads == {}


def test_large_heads_are_read_but_not_remembered() -> None:
    client = Client(echo)
    client.send((GET + HOST + b"X: " + b"y" * 2000 + b"\r\n\r\n") * 3)
    assert client.got == answer(b"GET / |") * 3
    assert client.known_heads.heads == {}


def test_the_body_of_a_request_is_not_awaited_when_it_has_none() -> None:
    seen: list[bytes] = []

    def at_once(request: Request) -> None:
        request.receive(lambda whole: seen.append(bytes(whole.body)))
        assert seen == [b""]

    Client(at_once).send(GET + HOST + b"\r\n")
    assert seen == [b""]
