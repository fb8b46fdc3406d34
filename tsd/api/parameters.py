"""What a management call says, in its query or in a JSON body, read as TorchServe reads it."""

from __future__ import annotations

import json
import re

from tsd.api.routes import Call
from tsd.errors import BadRequest, MalformedJson
from tsd.models.description import MAX_BATCH_SIZE, RegisterOptions
from tsd.operations import Scaling

MAX_BATCH_DELAY_MS = 3_600_000
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


def scaling(asked: dict[str, str], present: Scaling) -> Scaling:
    """TorchServe's numbers of workers, and tsd's own limits of batches.

    Where only these are said, the workers stay as many as they are."""
    size = _limit(asked, "batch_size", 1, MAX_BATCH_SIZE)
    delay_ms = _limit(asked, "max_batch_delay", 0, MAX_BATCH_DELAY_MS)
    if not (size is delay_ms is None or {"min_worker", "max_worker"} & asked.keys()):
        return Scaling(present.least, present.most, size, delay_ms)
    least = number(asked, "min_worker", 1)
    return Scaling(least, number(asked, "max_worker", least), size, delay_ms)


def number(asked: dict[str, str], name: str, default: int) -> int:
    """A whole number; TorchServe takes anything else for absent, so does tsd."""
    text = asked.get(name, "")
    return int(text) if WHOLE.fullmatch(text) else default


def is_true(text: str | None, *, default: bool) -> bool:
    """Only the word itself is true, in whatever case."""
    return default if text is None else text.lower() == "true"


def _limit(asked: dict[str, str], name: str, least: int, most: int) -> int | None:
    """A number that TorchServe does not know here, so that a wrong one can be told."""
    text = asked.get(name)
    if text is None:
        return None
    if not WHOLE.fullmatch(text) or not least <= int(text) <= most:
        raise BadRequest(
            f"{name} is wrong.",
            why=f"{text[:20]!r} is not a whole number from {least} to {most}",
            fix=f"give another {name}, or leave it out",
        )
    return int(text)


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
