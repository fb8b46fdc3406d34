"""(door, method, path) -> handler; and the errors that handlers raise -> answers.

Predictions are found by the first part of the path and handled at once; everything else is an
operator's or a monitor's call, whose body is read first and which may take its time."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from urllib.parse import parse_qsl, unquote

from tsd.api import answers
from tsd.api.access import CONTROL
from tsd.errors import BadRequest, MethodNotAllowed, TsdError, UnknownRoute
from tsd.http.message import Request, Response
from tsd.log import get_logger

MAX_CALL_BYTES = 1 << 20
MAX_QUERY_FIELDS = 64

log = get_logger()

PredictionHandler = Callable[[Request, list[str]], None]


@dataclass(frozen=True, slots=True)
class Call:
    """An operator's or a monitor's request, with its body read."""

    request: Request
    parts: dict[str, str]
    query: dict[str, str]


CallHandler = Callable[[Call], Awaitable[Response | None]]


@dataclass(slots=True)
class Routes:
    """What may be asked at one door. `calls`: (method, pattern) -> handler; `*`: any method."""

    predictions: Mapping[str, PredictionHandler] = field(default_factory=dict)
    calls: Mapping[tuple[str, str], CallHandler] = field(default_factory=dict)


class Router:
    """The one `handle` that http/ calls, for every door."""

    def __init__(self, doors: dict[str, Routes]) -> None:
        self._doors = doors
        self._running: set[asyncio.Task[None]] = set()

    def handle(self, request: Request) -> None:
        """Answer the request, now or later."""
        try:
            segments = request.path[1:].split("/")
            if "%" in request.path:
                segments = [_decoded(segment) for segment in segments]
            routes = self._doors[request.door]
            prediction = routes.predictions.get(segments[0])
            if prediction is not None:
                prediction(request, segments)
            else:
                self._handle_call(routes, request, segments)
        except TsdError as error:
            request.respond(answers.error_answer(error, for_operator=request.door == CONTROL))

    def _handle_call(self, routes: Routes, request: Request, segments: list[str]) -> None:
        handler, parts = _match(routes, request.method, segments)

        def when_read(_request: Request) -> None:
            running = asyncio.get_running_loop().create_task(_run(handler, request, parts))
            self._running.add(running)
            running.add_done_callback(self._running.discard)

        request.receive(when_read, limit=MAX_CALL_BYTES)


def _decoded(segment: str) -> str:
    """A part of the path without its percent signs; control characters have no business there."""
    text = unquote(segment)
    if not text.isprintable():
        raise BadRequest("The path holds a character that is not allowed.")
    return text


async def _run(handler: CallHandler, request: Request, parts: dict[str, str]) -> None:
    try:
        response = await handler(Call(request, parts, _query(request.query)))
        if response is not None:
            request.respond(response)
    except TsdError as error:
        request.respond(
            answers.error_answer(
                error,
                is_torchserve=not request.path.startswith("/tsd/"),
                for_operator=request.door == CONTROL,
            )
        )
    except Exception as error:
        log.exception("%s %s failed", request.method, request.path, error=repr(error))
        request.respond(answers.error_answer(TsdError("Internal server error.")))


def _query(text: str) -> dict[str, str]:
    try:
        return dict(parse_qsl(text, keep_blank_values=True, max_num_fields=MAX_QUERY_FIELDS))
    except ValueError as error:
        raise BadRequest("The query has too many fields.") from error


def _match(routes: Routes, method: str, segments: list[str]) -> tuple[CallHandler, dict[str, str]]:
    """The handler of a call and the named parts of its path."""
    is_known = False
    for (wanted, pattern), handler in routes.calls.items():
        parts = _parts(pattern, segments)
        if parts is not None:
            if wanted in (method, "*"):
                return handler, parts
            is_known = True
    if is_known:
        raise MethodNotAllowed("Requested method is not allowed, please refer to API document.")
    raise UnknownRoute("Requested resource is not found, please refer to API document.")


def _parts(pattern: str, segments: list[str]) -> dict[str, str] | None:
    names = pattern[1:].split("/")
    if len(names) != len(segments):
        return None
    parts = {}
    for name, segment in zip(names, segments, strict=True):
        if name.startswith("{") and segment:
            parts[name[1:-1]] = segment
        elif name != segment:
            return None
    return parts
