"""Headers for other origins: in every answer by the network, unless the handler has set them."""

from __future__ import annotations

import pytest

from tests.unit.http.wire import GET, Client
from tsd.api.access import CONTROL
from tsd.api.cors import with_cors
from tsd.api.table import LOCAL
from tsd.http.message import Request, Response
from tsd.settings import CorsSettings

SETTINGS = CorsSettings(origin="*", methods="GET, POST")
ORIGIN = b"access-control-allow-origin: *\r\n"
METHODS = b"access-control-allow-methods: GET, POST\r\n"


def answered(request: Request) -> None:
    request.respond(Response(404, b"", b"x-a: access-control-allow-origin: no\r\n"))


def set_by_handler(request: Request) -> None:
    request.respond(Response(200, b"", b"Access-Control-Allow-Origin: here\r\n"))


def streamed(request: Request) -> None:
    stream = request.stream(Response(200))
    stream.send(b"part")
    stream.end()


def got(settings: CorsSettings, handler: object, door: str = "http") -> bytes:
    client = Client(with_cors(settings, handler), door=door)  # type: ignore[arg-type]
    client.send(GET)
    return client.got


@pytest.mark.parametrize("handler", [answered, streamed])
def test_what_is_configured_stands_in_every_answer(handler: object) -> None:
    text = got(SETTINGS, handler)
    assert text.count(ORIGIN) == text.count(METHODS) == 1
    assert b"allow-headers" not in text


def test_what_the_handler_has_set_stays() -> None:
    text = got(SETTINGS, set_by_handler)
    assert b"Access-Control-Allow-Origin: here\r\n" in text
    assert ORIGIN not in text
    assert METHODS in text


@pytest.mark.parametrize("door", [CONTROL, LOCAL])
def test_browsers_do_not_come_by_unix_sockets(door: str) -> None:
    assert ORIGIN not in got(SETTINGS, streamed, door)


def test_nothing_is_done_where_nothing_is_configured() -> None:
    assert with_cors(CorsSettings(), answered) is answered
