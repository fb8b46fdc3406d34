"""What a management call says: the query, a JSON body, and what counts as absent."""

from __future__ import annotations

import pytest

from tests.unit.http.wire import Client
from tsd.api.parameters import is_true, number, register_options, register_parameters, scaling
from tsd.api.routes import Call
from tsd.errors import BadRequest, MalformedJson
from tsd.http.message import Request, Response
from tsd.operations import Scaling

JSON = "application/json"


def said(
    body: str, content_type: str = JSON, query: dict[str, str] | None = None
) -> dict[str, str]:
    requests: list[Request] = []

    def keep(request: Request) -> None:
        requests.append(request)
        request.receive(lambda whole: whole.respond(Response(200)))

    head = f"POST /models HTTP/1.1\r\nHost: h\r\nContent-Type: {content_type}\r\n"
    client = Client(keep)
    client.send(f"{head}Content-Length: {len(body)}\r\n\r\n{body}".encode())
    return register_parameters(Call(requests[0], {}, query or {"url": "from-query"}))


@pytest.mark.parametrize("content_type", [JSON, "Application/JSON; charset=utf-8"])
def test_a_json_body_stands_in_place_of_the_query(content_type: str) -> None:
    assert said('{"model_name": "m", "handler": null}', content_type) == {"model_name": "m"}


@pytest.mark.parametrize(("body", "content_type"), [("", JSON), ('{"url": "b"}', "text/plain")])
def test_without_a_json_body_the_query_counts(body: str, content_type: str) -> None:
    assert said(body, content_type) == {"url": "from-query"}


def test_members_may_be_of_any_simple_type() -> None:
    body = '{"url": 5, "batch_size": "2", "initial_workers": 3.0, "synchronous": true, "new": []}'
    assert said(body) == {
        "url": "5",
        "batch_size": "2",
        "initial_workers": "3",
        "synchronous": "true",
    }


@pytest.mark.parametrize(
    "body",
    [
        *("{bad", "[]", '"x"', "null", "[" * 100_000, '{"url": ["a"]}', '{"url": {}}'),
        *('{"batch_size": "x"}', '{"batch_size": 2.5}', '{"batch_size": true}'),
        *('{"batch_size": 99999999999}', '{"batch_size": 1e999}'),
    ],
)
def test_what_is_no_such_body_is_refused_as_torchserve_does(body: str) -> None:
    with pytest.raises(MalformedJson) as refused:
        said(body)
    assert refused.value.torchserve_status == 500
    assert refused.value.torchserve_type == "JsonSyntaxException"


@pytest.mark.parametrize(
    ("text", "expected"),
    [("5", 5), ("-5", -5), ("+5", 5), ("", 7), ("x", 7), ("1.0", 7), ("٣", 7), ("9" * 12, 7)],
)
def test_what_is_no_number_counts_as_absent(text: str, expected: int) -> None:
    assert number({"limit": text}, "limit", 7) == expected
    assert number({}, "limit", 7) == 7


def test_only_the_word_true_is_true() -> None:
    assert is_true("TRUE", default=False)
    assert not any(is_true(text, default=True) for text in ("yes", "1", "false", ""))
    assert is_true(None, default=True)


def test_options_that_are_not_said_are_none() -> None:
    options = register_options({"batch_size": "4", "response_timeout": "-1", "handler": ""})
    assert options.batch_size == 4
    assert options.response_timeout is None
    assert options.initial_workers is None
    assert options.handler is None
    assert options.max_batch_delay is None


def test_less_than_no_workers_are_none() -> None:
    assert register_options({"initial_workers": "-1"}).initial_workers == 0
    assert register_options({"initial_workers": "x"}).initial_workers is None


@pytest.mark.parametrize(
    ("asked", "expected"),
    [
        ({}, Scaling(1, 1)),
        ({"max_worker": "3"}, Scaling(1, 3)),
        ({"min_worker": "2", "batch_size": "8"}, Scaling(2, 2, 8)),
        # Without a word of workers they stay as many as they are.
        ({"batch_size": "8"}, Scaling(4, 6, 8)),
        ({"max_batch_delay": "0"}, Scaling(4, 6, None, 0)),
    ],
)
def test_what_is_said_of_batches_alone_leaves_the_workers(
    asked: dict[str, str], expected: Scaling
) -> None:
    assert scaling(asked, Scaling(4, 6)) == expected


@pytest.mark.parametrize(
    ("name", "text"),
    [
        *(("batch_size", text) for text in ("0", "-1", "1025", "x", "")),
        *(("max_batch_delay", text) for text in ("-1", "3600001", "1.5")),
    ],
)
def test_a_limit_of_batches_that_cannot_be_is_told(name: str, text: str) -> None:
    with pytest.raises(BadRequest) as refused:
        scaling({name: text}, Scaling(1, 1))
    assert name in str(refused.value)
    assert text in refused.value.why
