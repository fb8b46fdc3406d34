"""Whether an answer is the one TorchServe gave; every difference in words.

An expectation is what the case files hold under `expect`. What differs from run to run (ids, keys,
times, pids, versions) has the same stand-in on both sides."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from tests.torchserve.calls import CallReply
from tests.torchserve.wire import Reply, Silence

ANYTHING = "<ANY>"
STAND_INS = [
    (re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}"), "<UUID>"),
    (re.compile(r'("startTime": )"[-\dT:.]+Z"'), r'\1"<TIME>"'),
    (re.compile(r'("(?:pid|memoryUsage)": )-?\d+'), r"\g<1>0"),
    (re.compile(r'("id": )"9\d{3}"'), r'\1"<WORKER>"'),
    (re.compile(r'("model_dir": )"/[^"]+"'), r'\1"<DIR>"'),
    (re.compile(r'("(?:server_)?version": )"\d+\.\d+\.\d+[^"]*"'), r'\1"<VERSION>"'),
    (re.compile(r"/[^\s'\"]*/store\b"), "<STORE>"),
]
USUAL_HEADERS = {
    "content-type": None,
    "x-request-id": "<UUID>",
    "pragma": "no-cache",
    "cache-control": "no-cache; no-store, must-revalidate, private",
    "expires": "Thu, 01 Jan 1970 00:00:00 UTC",
}
Answer = Reply | CallReply | Silence


def settled(text: str, keys: Mapping[str, str]) -> str:
    """The text with stand-ins for what no two servers share."""
    for key in keys.values():
        text = text.replace(key, "<KEY>")
    for pattern, stand_in in STAND_INS:
        text = pattern.sub(stand_in, text)
    return text


def differences(expect: Any, answer: Answer, keys: Mapping[str, str]) -> list[str]:
    """Nothing when the answer is the expected one; of a list of expectations, any will do."""
    if isinstance(expect, list):
        return min((differences(each, answer, keys) for each in expect), key=len)
    if expect.get("hang"):
        return [] if answer == Silence() else [f"expected no answer, got {answer}"]
    if isinstance(answer, Silence):
        return [answer.why or "no answer in time"]
    if isinstance(answer, CallReply):
        return list(call_differences(expect, answer, keys))
    return [
        *status_differences(expect.get("status", ANYTHING), answer.status),
        *header_differences(expect, answer, keys),
        *body_differences(expect, answer, keys),
    ]


def status_differences(expected: str, actual: str) -> Iterator[str]:
    """A status without a space leaves the reason phrase open."""
    got = actual if " " in expected else actual.partition(" ")[0]
    if expected not in (ANYTHING, got):
        yield f"status: expected {expected!r}, got {actual!r}"


def header_differences(
    expect: Mapping[str, Any], answer: Reply, keys: Mapping[str, str]
) -> Iterator[str]:
    usual = USUAL_HEADERS | {"connection": "keep-alive" if answer.status < "4" else "close"}
    expected = {
        **(dict.fromkeys(usual) if expect.get("bare") else usual),
        **expect.get("headers", {}),
    }
    for name, value in expected.items():
        actual = answer.headers.get(name)
        actual = None if actual is None else settled(actual, keys)
        if value not in (ANYTHING, actual):
            yield f"header {name}: expected {value!r}, got {actual!r}"
    if ("chunks" in expect) != (answer.chunks is not None):
        yield f"chunked: expected {'chunks' in expect}, got {answer.chunks is not None}"


def body_differences(
    expect: Mapping[str, Any], answer: Reply, keys: Mapping[str, str]
) -> Iterable[str]:
    body = settled(as_text(answer.body), keys)
    if "text" in expect:
        return value_differences(expect["text"], body)
    if "chunks" in expect:
        return value_differences(
            expect["chunks"], [as_text(chunk) for chunk in answer.chunks or []]
        )
    if "metrics" in expect:
        return metric_differences(expect, body)
    kind = next((kind for kind in ("json", "dumps", "value", "subset") if kind in expect), None)
    return json_differences(kind, expect[kind], body) if kind else []


def as_text(body: bytes) -> str:
    return body.decode("utf-8", "backslashreplace")


def json_differences(kind: str, expected: Any, body: str) -> Iterable[str]:
    """By value; `json` and `dumps` also by the bytes that TorchServe makes of that value."""
    try:
        actual = json.loads(body)
    except ValueError:
        return [f"body: not JSON: {body[:200]!r}"]
    found = list(value_differences(expected, actual, is_part=kind == "subset"))
    exact = rendered(kind, expected)
    if found or exact is None or ANYTHING in exact or exact == body:
        return found
    return [f"the same JSON in other bytes: expected {exact[:200]!r}, got {body[:200]!r}"]


def rendered(kind: str, value: Any) -> str | None:
    """The bytes of TorchServe's front end (`json`) or of its worker (`dumps`) for a value."""
    if kind == "json":
        return json.dumps(value, indent=2, ensure_ascii=False) + "\n"
    return json.dumps(value, indent=2) if kind == "dumps" else None


def call_differences(
    expect: Mapping[str, Any], answer: CallReply, keys: Mapping[str, str]
) -> Iterator[str]:
    if expect["code"] != answer.code:
        yield f"code: expected {expect['code']}, got {answer.code}: {answer.details!r}"
    elif "details" in expect:
        yield from value_differences(expect["details"], settled(answer.details, keys), "details")
    if "messages" in expect:
        yield from value_differences(expect["messages"], opened(answer.messages, keys), "messages")


def opened(value: Any, keys: Mapping[str, str]) -> Any:
    """A message with its texts settled, and the JSON in them parsed."""
    if isinstance(value, dict):
        return {name: opened(item, keys) for name, item in value.items()}
    if isinstance(value, list):
        return [opened(item, keys) for item in value]
    if not isinstance(value, str):
        return value
    text = settled(value, keys)
    try:
        return json.loads(text) if text[:1] in ("{", "[") else text
    except ValueError:
        return text


def metric_lines(page: str) -> set[str]:
    """HELP, TYPE and sample lines; a value stays only where the requests alone decide it."""
    page = re.sub(r'([Hh]ostname)="[^"]*"', r'\1="<HOST>"', page)
    page = re.sub(r'WorkerName="W-\d+-', 'WorkerName="W-<N>-', page)
    counted = r"(?!#|My|ts_inference_requests_total)"
    return set(re.sub(rf"(?m)^({counted}.*\}}) \S+$", r"\1 <N>", page).splitlines())


def metric_differences(expect: Mapping[str, Any], body: str) -> Iterator[str]:
    expected, actual = set(expect["metrics"]), metric_lines(body)
    yield from (f"missing: {line}" for line in sorted(expected - actual))
    if expect.get("only"):
        yield from (f"too much: {line}" for line in sorted(actual - expected))


def value_differences(
    expected: Any, actual: Any, at: str = "$", *, is_part: bool = False
) -> Iterator[str]:
    """Where two JSON values differ; of an object `is_part` compares the expected members only."""
    if expected == ANYTHING:
        return
    if isinstance(expected, dict) and isinstance(actual, dict):
        for name in expected if is_part else {**expected, **actual}:
            wanted, got = expected.get(name, MISSING), actual.get(name, MISSING)
            yield from value_differences(wanted, got, f"{at}.{name}", is_part=is_part)
    elif isinstance(expected, list) and isinstance(actual, list) and len(expected) == len(actual):
        for i, (wanted, got) in enumerate(zip(expected, actual, strict=True)):
            yield from value_differences(wanted, got, f"{at}[{i}]", is_part=is_part)
    elif expected != actual or isinstance(expected, bool) != isinstance(actual, bool):
        yield f"{at}: expected {expected!r:.300}, got {actual!r:.300}"


class Missing:
    """What stands where one side has no such member."""

    def __repr__(self) -> str:
        return "nothing"


MISSING = Missing()
