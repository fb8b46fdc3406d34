"""What a management call says, in its query or in a JSON body, read as TorchServe reads it."""

from __future__ import annotations

import json
import re

from tsd.api.routes import Call
from tsd.errors import MalformedJson
from tsd.models.description import RegisterOptions

WHOLE = re.compile(r"[+-]?[0-9]{1,9}", re.ASCII)
NUMBERS = frozenset(
    (
        *("batch_size", "max_batch_delay", "response_timeout", "startup_timeout"),
        "initial_workers",
    )
)
NAMES = (*NUMBERS, "url", "model_name", "handler", "runtime", "synchronous", "s3_sse_kms")


def register_parameters(call: Call) -> dict[str, str]:
    """From a JSON body, else from the query; never from both."""
    said = call.request.header(b"content-type") or b""
    is_json = said.partition(b";")[0].strip().lower() == b"application/json"
    if not (is_json and call.request.body):
        return call.query
    try:
        body = json.loads(bytes(call.request.body))
    except (ValueError, RecursionError) as error:
        raise MalformedJson("The body is not valid JSON.", why=str(error)) from error
    if not isinstance(body, dict):
        raise MalformedJson("The body is not a JSON object.")
    known = {name: body[name] for name in NAMES if body.get(name) is not None}
    return {name: _text(name, value) for name, value in known.items()}


def register_options(asked: dict[str, str]) -> RegisterOptions:
    """What is asked for besides the archive; what is no number, or negative, counts as absent.

    A negative number of workers, though, is none."""

    def number_of(name: str) -> int | None:
        found = number(asked, name, -1)
        return None if found < 0 else found

    workers = number(asked, "initial_workers", -1)
    is_said = WHOLE.fullmatch(asked.get("initial_workers", "")) is not None
    return RegisterOptions(
        model_name=asked.get("model_name") or None,
        handler=asked.get("handler") or None,
        batch_size=number_of("batch_size"),
        max_batch_delay=number_of("max_batch_delay"),
        response_timeout=number_of("response_timeout"),
        startup_timeout=number_of("startup_timeout"),
        initial_workers=max(0, workers) if is_said else None,
        runtime=asked.get("runtime"),
    )


def number(asked: dict[str, str], name: str, default: int) -> int:
    """A whole number; TorchServe takes anything else for absent, so does tsd."""
    text = asked.get(name, "")
    return int(text) if WHOLE.fullmatch(text) else default


def is_true(text: str | None, *, default: bool) -> bool:
    """Only the word itself is true, in whatever case."""
    return default if text is None else text.lower() == "true"


def _text(name: str, value: object) -> str:
    """A member of the body as the query would say it."""
    if isinstance(value, list | dict):
        raise MalformedJson(f"{name} cannot be a list or an object.")
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    text = str(value).lower() if isinstance(value, bool) else str(value)
    if name in NUMBERS and not WHOLE.fullmatch(text):
        raise MalformedJson(f"{name} is not a whole number.")
    return text
