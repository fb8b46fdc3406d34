"""A long call's answer, for callers that accept `application/x-ndjson`: JSON objects, one a line.

Each phase as it comes, then the result or the error that ends it."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable

from tsd.api import answers
from tsd.api.access import CONTROL
from tsd.api.routes import Call
from tsd.errors import TsdError
from tsd.http.message import Response, Stream
from tsd.log import get_logger

MAX_WAITING_BYTES = 65_536

log = get_logger()

Words = dict[str, object]
Say = Callable[[Words], None]


def wants_phases(call: Call) -> bool:
    """Whether the caller reads a stream."""
    return b"application/x-ndjson" in (call.request.header(b"accept") or b"")


async def stream_phases(call: Call, work: Callable[[Say], Awaitable[Words]]) -> None:
    """Do the work; what it says is told at once, what it returns at the end."""
    lines = _Lines(call)
    try:
        lines.end(await work(lines.say))
    except TsdError as error:
        if lines.stream is None:
            raise
        members = answers.error_members(
            error,
            answers.error_status(error, is_torchserve=True),
            for_operator=call.request.door == CONTROL,
        )
        lines.end({"error": members | _traceback_of(error)})
    except Exception as error:
        if lines.stream is None:
            raise
        # A bug: one traceback in the log, a bare error outside; and the stream has to end.
        log.exception("%s failed", call.request.path, error=repr(error))
        bare = TsdError("Internal server error.")
        lines.end({"error": answers.error_members(bare, 500, for_operator=False)})


class _Lines:
    """The stream of phases, begun with the first: an error before it has its own status."""

    def __init__(self, call: Call) -> None:
        self._request = call.request
        self.stream: Stream | None = None

    def say(self, words: Words) -> None:
        """A reader that is too slow misses phases; nothing is held for it."""
        stream = self._begun()
        if stream.waiting_bytes < MAX_WAITING_BYTES:
            stream.send(_line(words))

    def end(self, words: Words) -> None:
        stream = self._begun()
        stream.send(_line(words))
        stream.end()

    def _begun(self) -> Stream:
        if self.stream is None:
            head = answers.head(answers.new_request_id(), answers.NDJSON_TYPE)
            self.stream = self._request.stream(Response(200, b"", head, answers.OK))
        return self.stream


def _line(words: Words) -> bytes:
    return json.dumps(words).encode() + b"\n"


def _traceback_of(error: TsdError) -> dict[str, str]:
    return {"traceback": error.traceback} if error.traceback else {}
