"""(door, method, path) -> handler, and errors -> answers."""

from __future__ import annotations

import asyncio

import pytest

from tests.unit.http.wire import Client
from tsd.api.answers import json_answer
from tsd.api.routes import Call, Check, Router, Routes
from tsd.errors import BadRequest, StateNotSaved, TokenRefused
from tsd.http.message import Request, Response


async def show(call: Call) -> Response:
    return json_answer({"parts": call.parts, "query": call.query})


async def refuse(_call: Call) -> Response:
    raise StateNotSaved("disk full", why="no space")


async def fail(_call: Call) -> Response:
    raise ZeroDivisionError("a bug")


def predict(request: Request, segments: list[str]) -> None:
    request.respond(json_answer({"prediction": segments}))


CALLS = {
    ("GET", "/"): show,
    ("GET", "/models/{model}"): show,
    ("GET", "/v1/models/{model}"): show,
    ("*", "/any"): show,
    ("GET", "/refused"): refuse,
    ("GET", "/bug"): fail,
}
PREDICTIONS = {
    "predictions": predict,
    "/{model}/predict": predict,
    "/v1/models/{model}:predict": predict,
}


def needs(header: bytes) -> Check:
    def check(request: Request) -> None:
        if request.header(header) is None:
            raise TokenRefused(f"no {header.decode()}")

    return check


GUARDED = [
    Routes({"predictions": predict}, {("GET", "/ping"): show}, needs(b"one")),
    Routes({}, {("GET", "/models"): show}, needs(b"two")),
    Routes({}, {("GET", "/open"): show}),
]


async def ask(
    target: str, method: str = "GET", headers: str = "", door: list[Routes] | None = None
) -> bytes:
    router = Router({"http": door or [Routes(PREDICTIONS, CALLS)]})
    client = Client(router.handle)
    client.send(f"{method} {target} HTTP/1.1\r\nHost: h\r\n{headers}\r\n".encode())
    while not client.got:
        await asyncio.sleep(0)
        client.turn()
    return client.got


def answer(target: str, method: str = "GET") -> bytes:
    return asyncio.run(ask(target, method))


def guarded(target: str, method: str = "GET", headers: str = "") -> bytes:
    return asyncio.run(ask(target, method, headers, GUARDED))


def test_parts_and_query_are_decoded_and_the_first_value_counts() -> None:
    got = answer("/models/a%20b?x=1%202&y=&x=3")
    assert b'"model": "a b"' in got
    assert b'"x": "1 2"' in got
    assert b'"y": ""' in got


def test_a_path_is_decoded_before_it_is_split() -> None:
    assert answer("/models/a%2Fb").startswith(b"HTTP/1.1 404 Not Found")
    assert b'"model": "a"' in answer("/models%2Fa")


def test_slashes_at_the_end_count_for_nothing() -> None:
    assert b'"model": "a"' in answer("/models/a/")
    assert b'"model": "a"' in answer("/models/a//")
    assert answer("/").startswith(b"HTTP/1.1 200 OK")
    assert answer("//any").startswith(b"HTTP/1.1 404 Not Found")


def test_a_known_path_with_another_method_is_405_and_others_are_404() -> None:
    assert answer("/models/a", "DELETE").startswith(b"HTTP/1.1 405 Method Not Allowed")
    assert answer("/any", "DELETE").startswith(b"HTTP/1.1 200 OK")
    for path in ("/models", "/models/", "/models/a/b", "/nothing"):
        assert answer(path).startswith(b"HTTP/1.1 404 Not Found"), path


@pytest.mark.parametrize(
    "path", ["/predictions", "/predictions/a/1.0/b", "/any/predict", "/v1/models/a:predict"]
)
def test_predictions_are_found_by_the_first_part_or_by_the_whole(path: str) -> None:
    assert b'"prediction"' in answer(path, "PUT")


def test_a_pattern_may_name_a_part_and_what_it_ends_with() -> None:
    assert b'"model": "a:explain"' in answer("/v1/models/a:explain")


def test_a_path_with_a_control_character_is_refused() -> None:
    for path in ("/models/a%00b", "/models/%0d%0aX", "/any%1b"):
        assert answer(path).startswith(b"HTTP/1.1 400 Bad Request"), path


@pytest.mark.parametrize("target", ["/models/%zz", "/models/a%", "/predictions/%4", "/any?x=%zz"])
def test_what_is_not_percent_encoded_is_refused_as_torchserve_does(target: str) -> None:
    got = answer(target)
    assert got.startswith(b"HTTP/1.1 403 Forbidden")
    assert b"IllegalArgumentException" in got


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


def test_each_route_asks_for_the_right_of_its_own_part() -> None:
    assert b"no one" in guarded("/predictions/a")
    assert b"no one" in guarded("/predictions/a", headers="two: 2\r\n")
    assert guarded("/predictions/a", headers="one: 1\r\n").startswith(b"HTTP/1.1 200")
    assert b"no two" in guarded("/models", headers="one: 1\r\n")
    assert guarded("/models", headers="two: 2\r\n").startswith(b"HTTP/1.1 200")
    assert guarded("/open").startswith(b"HTTP/1.1 200")


def test_strangers_do_not_learn_what_is_there() -> None:
    assert b"no two" in guarded("/models", "POST", "one: 1\r\n")
    assert guarded("/models", "POST", "two: 2\r\n").startswith(b"HTTP/1.1 405")
    assert guarded("/open", "POST").startswith(b"HTTP/1.1 405")
    assert b"no one" in guarded("/nothing")
    for known in ("one: 1\r\n", "two: 2\r\n"):
        assert guarded("/nothing", headers=known).startswith(b"HTTP/1.1 404")


def test_who_may_not_ask_is_refused_before_a_body_is_received() -> None:
    got = guarded("/ping", headers="Content-Length: 6000000\r\n")
    assert b"no one" in got
    assert b"connection: close" in got
