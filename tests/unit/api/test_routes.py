"""(door, method, path) -> handler, and errors -> answers."""

from __future__ import annotations

import asyncio

from tests.unit.http.wire import Client
from tsd.api.answers import json_answer
from tsd.api.routes import Call, Router, Routes
from tsd.errors import BadRequest, StateNotSaved
from tsd.http.message import Response


async def show(call: Call) -> Response:
    return json_answer({"parts": call.parts, "query": call.query})


async def refuse(_call: Call) -> Response:
    raise StateNotSaved("disk full", why="no space")


async def fail(_call: Call) -> Response:
    raise ZeroDivisionError("a bug")


CALLS = {
    ("GET", "/models/{model}"): show,
    ("*", "/any"): show,
    ("GET", "/refused"): refuse,
    ("GET", "/bug"): fail,
}


async def ask(target: str, method: str = "GET") -> bytes:
    router = Router({"http": Routes({}, dict(CALLS))})
    client = Client(router.handle)
    client.send(f"{method} {target} HTTP/1.1\r\nHost: h\r\n\r\n".encode())
    while not client.got:
        await asyncio.sleep(0)
        client.turn()
    return client.got


def answer(target: str, method: str = "GET") -> bytes:
    return asyncio.run(ask(target, method))


def test_parts_and_query_are_decoded() -> None:
    got = answer("/models/a%2Fb?x=1%202&y=&x=3")
    assert b'"model": "a/b"' in got
    assert b'"x": "3"' in got
    assert b'"y": ""' in got


def test_a_known_path_with_another_method_is_405_and_others_are_404() -> None:
    assert answer("/models/a", "DELETE").startswith(b"HTTP/1.1 405 Method Not Allowed")
    assert answer("/any", "DELETE").startswith(b"HTTP/1.1 200 OK")
    for path in ("/", "/models", "/models/", "/models/a/b", "/nothing"):
        assert answer(path).startswith(b"HTTP/1.1 404 Not Found"), path


def test_a_path_with_a_control_character_is_refused() -> None:
    for path in ("/models/a%00b", "/models/%0d%0aX", "/any%1b"):
        assert answer(path).startswith(b"HTTP/1.1 400 Bad Request"), path


def test_an_error_of_ours_is_told_and_a_bug_is_not() -> None:
    assert b"HTTP/1.1 507" in answer("/refused")
    assert b"disk full" in answer("/refused")
    bug = answer("/bug")
    assert bug.startswith(b"HTTP/1.1 500 Internal Server Error")
    assert b"Internal server error." in bug
    assert b"ZeroDivision" not in bug


def test_a_query_with_too_many_fields_is_refused() -> None:
    got = answer("/any?" + "&".join(f"a{n}=1" for n in range(100)))
    assert got.startswith(b"HTTP/1.1 400 Bad Request")
    assert BadRequest.code == "bad_request"
