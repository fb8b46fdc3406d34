"""Over TLS: what is written is taken at once, and a connection has no half."""

from __future__ import annotations

from tests.unit.http.wire import Client, answer, post
from tsd.http.answers import UNCOPIED_BYTES
from tsd.http.message import Request, Response
from tsd.http.pace import LINGER_S
from tsd.http.refusal import REFUSALS

GET = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"
BODY = memoryview(bytes(3 * UNCOPIED_BYTES + 1))


class Giver:
    """Answers with a large body, and knows when its memory came back."""

    def __init__(self) -> None:
        self.freed = 0

    def __call__(self, request: Request) -> None:
        request.respond(Response(200, BODY, release=self.free))

    def free(self) -> None:
        self.freed += 1


def encrypted(handler: Giver | None = None) -> Client:
    client = Client(handler) if handler else Client()
    client.wire.is_encrypted = True
    return client


def test_a_large_body_leaves_in_pieces_as_the_client_takes_them() -> None:
    giver = Giver()
    client = encrypted(giver)
    client.wire.is_stuck = True
    client.send(GET)
    for number in (1, 2, 3, 4):
        sent = sum(map(len, client.wire.writes[1:]))
        assert sent == min(number * UNCOPIED_BYTES, len(BODY))
        assert giver.freed == 0
        client.wire.take()
    assert giver.freed == 1
    client.wire.is_stuck = False
    client.send(GET)
    assert client.got == 2 * answer(bytes(BODY))
    assert giver.freed == 2


def test_progress_is_seen_though_as_much_is_always_waiting() -> None:
    giver = Giver()
    client = encrypted(giver)
    client.wire.is_stuck = True
    client.send(GET)
    for _piece in range(3):
        client.wait(25)
        client.wire.take()
    assert not client.wire.is_closed
    client.wait(40)
    assert client.wire.is_aborted


def test_a_large_body_is_freed_once_when_the_client_goes() -> None:
    giver = Giver()
    client = encrypted(giver)
    client.wire.is_stuck = True
    client.send(GET)
    client.go()
    assert giver.freed == 1


def test_a_client_that_ends_its_side_is_gone() -> None:
    client = encrypted()
    client.send(GET)
    client.end()
    assert client.wire.is_closed


def test_a_refused_client_has_its_time_to_read_though_there_is_no_half_close() -> None:
    client = encrypted()
    client.send(post(10**9))
    assert client.got == REFUSALS[413]
    assert not client.wire.is_closed
    client.wait(LINGER_S + 1)
    assert client.wire.is_aborted
