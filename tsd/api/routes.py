"""(door, method, path) -> handler; and the errors that handlers raise -> answers.

Predictions are found first, by the first part of the path or by all of it, and handled at once;
everything else is an operator's or a monitor's call, whose body is read first and which may take
its time. Who may ask is checked before anything of the body is received."""

from __future__ import annotations

import asyncio
import functools
import re
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from urllib.parse import parse_qsl, unquote

from tsd.api import answers
from tsd.api.access import CONTROL
from tsd.errors import (
    BadRequest,
    MalformedTarget,
    MethodNotAllowed,
    TokenRefused,
    TsdError,
    UnknownRoute,
)
from tsd.http.message import Meaning, Request, Response
from tsd.log import get_logger

MAX_CALL_BYTES = 1 << 20
MAX_QUERY_FIELDS = 64
NOT_ENCODED = re.compile(r"%(?![0-9A-Fa-f]{2})")
UNKNOWN = "Requested resource is not found, please refer to API document."
NOT_ALLOWED = "Requested method is not allowed, please refer to API document."

log = get_logger()

PredictionHandler = Callable[[Request, list[str]], None]
Check = Callable[[Request], None]


@dataclass(frozen=True, slots=True)
class Call:
    """An operator's or a monitor's request, with its body read."""

    request: Request
    parts: dict[str, str]
    query: dict[str, str]


CallHandler = Callable[[Call], Awaitable[Response | None]]


@dataclass(frozen=True, slots=True)
class Routes:
    """Some of what may be asked at a door: what one and the same caller may ask.

    `predictions`: the first part of the path, or a pattern of the whole, -> handler, for any
    method. `calls`: (method, pattern) -> handler; `*`: any method. A pattern names parts of the
    path, as in `/models/{model}:predict`, and may end in `/*`: whatever follows, if anything.
    `check` raises TokenRefused for who may not ask; `is_section`: who passes it may be told that
    a path is not there at all."""

    predictions: Mapping[str, PredictionHandler] = field(default_factory=dict)
    calls: Mapping[tuple[str, str], CallHandler] = field(default_factory=dict)
    check: Check | None = None
    is_section: bool = True

    def prediction(self, segments: list[str]) -> PredictionHandler | None:
        """The handler of a path that asks for a prediction."""
        handler = self.predictions.get(segments[0])
        if handler is not None:
            return handler
        for pattern, handler in self.predictions.items():
            if pattern[0] == "/" and parts_of(pattern, segments) is not None:
                return handler
        return None

    def admit(self, request: Request) -> None:
        """Raise TokenRefused for who may not ask."""
        if self.check is not None:
            self.check(request)

    def call(self, method: str, segments: list[str]) -> tuple[CallHandler, dict[str, str]] | None:
        """The handler of a call and the named parts of its path."""
        for (wanted, pattern), handler in self.calls.items():
            if wanted in (method, "*"):
                parts = parts_of(pattern, segments)
                if parts is not None:
                    return handler, parts
        return None

    def knows(self, segments: list[str]) -> bool:
        """Whether the path is right for some method."""
        return any(parts_of(pattern, segments) is not None for _, pattern in self.calls)


class Router:
    """The one `handle` that http/ calls, for every door.

    What stands first at a door wins, where one path fits twice."""

    def __init__(self, doors: Mapping[str, Sequence[Routes]]) -> None:
        self._doors = doors
        self._running: set[asyncio.Task[None]] = set()

    def handle(self, request: Request) -> None:
        """Answer the request, now or later."""
        meaning = request.head.meaning
        try:
            if meaning is None or not meaning(request):
                self._start(request)
        except TsdError as error:
            _answer_error(request, error)

    def _start(self, request: Request) -> None:
        segments = _segments(request.path)
        door = self._doors[request.door]
        for routes in door:
            prediction = routes.prediction(segments)
            if prediction is not None:
                routes.admit(request)
                prediction(request, segments)
                head = request.head
                if head.meaning is not None and routes.check is not None:
                    # A token may expire between one request and the next.
                    head.meaning = partial(_admitted, routes.check, head.meaning)
                return
            found = routes.call(request.method, segments)
            if found is not None:
                routes.admit(request)
                self._receive(request, *found)
                return
        _refuse(door, request, segments)

    def _receive(self, request: Request, handler: CallHandler, parts: dict[str, str]) -> None:
        query = _query(request.query)

        def when_read(_request: Request) -> None:
            call = Call(request, parts, query)
            running = asyncio.get_running_loop().create_task(_run(handler, call))
            self._running.add(running)
            running.add_done_callback(self._running.discard)

        request.receive(when_read, limit=MAX_CALL_BYTES)


def _admitted(check: Check, meaning: Meaning, request: Request) -> bool:
    check(request)
    return meaning(request)


async def _run(handler: CallHandler, call: Call) -> None:
    request = call.request
    try:
        response = await handler(call)
        if response is not None:
            request.respond(response)
    except TsdError as error:
        _answer_error(request, error)
    except Exception as error:
        log.exception("%s %s failed", request.method, request.path, error=repr(error))
        request.respond(answers.error_answer(TsdError("Internal server error.")))


def _answer_error(request: Request, error: TsdError) -> None:
    response = answers.error_answer(
        error,
        is_torchserve=not request.path.startswith("/tsd/"),
        for_operator=request.door == CONTROL,
    )
    request.respond(response)


def _refuse(door: Sequence[Routes], request: Request, segments: list[str]) -> None:
    """No handler: 405 where the path is known, else 404; strangers learn neither."""
    known = next((routes for routes in door if routes.knows(segments)), None)
    asked = [routes for routes in door if routes.check and routes.is_section]
    checks = [routes.check for routes in ([known] if known else asked)]
    _pass_one(checks, request)
    raise MethodNotAllowed(NOT_ALLOWED) if known else UnknownRoute(UNKNOWN)


def _pass_one(checks: Sequence[Check | None], request: Request) -> None:
    """Who may ask something here may be told that this is not it."""
    refusal: TokenRefused | None = None
    for check in checks:
        try:
            if check is not None:
                check(request)
            return
        except TokenRefused as error:
            refusal = refusal or error
    if refusal is not None:
        raise refusal


def _segments(path: str) -> list[str]:
    """The parts of a path. As in TorchServe it is decoded first, and slashes at its end count
    for nothing."""
    if "%" in path:
        path = _decoded(path)
    segments = path[1:].split("/")
    while len(segments) > 1 and not segments[-1]:
        segments.pop()
    return segments


def _decoded(text: str) -> str:
    """A path without its percent signs; control characters have no business there."""
    if NOT_ENCODED.search(text):
        raise MalformedTarget("The path is not percent-encoded as it should be.")
    path = unquote(text)
    if not path.isprintable():
        raise BadRequest("The path holds a character that is not allowed.")
    return path


def _query(text: str) -> dict[str, str]:
    """Name -> value; of several values the first, as TorchServe has it."""
    if "%" in text and NOT_ENCODED.search(text):
        raise MalformedTarget("The query is not percent-encoded as it should be.")
    try:
        # A semicolon parts fields, too, as it did when TorchServe's HTTP server was written.
        fields = parse_qsl(
            text.replace(";", "&"), keep_blank_values=True, max_num_fields=MAX_QUERY_FIELDS
        )
    except ValueError as error:
        raise BadRequest("The query has too many fields.") from error
    return dict(reversed(fields))


@functools.cache
def _names(pattern: str) -> list[str]:
    return pattern[1:].split("/")


def parts_of(pattern: str, segments: list[str]) -> dict[str, str] | None:
    """The parts that a pattern names, if the path fits it."""
    names = _names(pattern)
    if names[-1] == "*":
        names = names[:-1]
        segments = segments[: len(names)]
    if len(names) != len(segments):
        return None
    parts = {}
    for name, segment in zip(names, segments, strict=True):
        if name.startswith("{"):
            key, _, suffix = name[1:].partition("}")
            if not segment.endswith(suffix):
                return None
            parts[key] = segment.removesuffix(suffix)
        elif name != segment:
            return None
    return parts
