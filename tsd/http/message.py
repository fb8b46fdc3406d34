"""Request and Response as the application sees them, and the bytes of answers.

How requests are read is told in head.py and body.py; when answers leave, in answers.py."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Protocol

from tsd.http.origin import Origin, PeerCredentials

# The phrase of each status, for callers that want one in their answers.
REASONS = {status.value: status.phrase.encode() for status in HTTPStatus}
CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"
LAST_CHUNK = b"0\r\n\r\n"
KEPT = b"HTTP/1.1 %d %b\r\n%bcontent-length: %d\r\nconnection: keep-alive\r\n\r\n%b"
LAST = b"HTTP/1.1 %d %b\r\n%bcontent-length: %d\r\nconnection: close\r\n\r\n%b"
BODILESS = frozenset({HTTPStatus.NO_CONTENT.value, HTTPStatus.NOT_MODIFIED.value})


@dataclass(slots=True)
class Response:
    """One answer; `content-length` and `connection` are added when it leaves."""

    status: int
    body: bytes | bytearray | memoryview = b""
    # Ready-made header lines, each ending in CRLF.
    head: bytes = b""
    reason: bytes = b""
    is_last: bool = False
    # Called once, when nobody reads the body's memory any more.
    release: Callable[[], None] | None = None

    def free(self) -> None:
        """Give the body's memory back."""
        if self.release is not None:
            release, self.release = self.release, None
            release()


class Carrier(Protocol):
    """What a request needs of the connection that it came by."""

    @property
    def origin(self) -> Origin:
        """Who is at the other end."""

    @property
    def is_congested(self) -> bool:
        """The client takes less than it is sent."""

    @property
    def unsent_bytes(self) -> int:
        """What was written and the client has not taken."""

    def read_body(self, request: Request) -> None:
        """The request has said where its body goes."""

    def read_on(self) -> None:
        """A body that came with its head has found its place."""

    def ready(self, request: Request) -> None:
        """The request has something to write."""


@dataclass(slots=True)
class Head:
    """What the lines before a body said. Equal heads may share one: it is never changed."""

    method: str
    # Raw, and always path and query, whatever form the client chose.
    target: bytes
    headers: list[tuple[bytes, bytes]]
    path: str
    query: str
    # None: the length is not known before the end (chunked).
    content_length: int | None = 0
    is_http_1_0: bool = False
    expects_continue: bool = False
    # The client wants the connection closed after the answer.
    is_last: bool = False
    # What the application found out about it, for requests that have the same head: it is called
    # with each of them, and says whether it still holds. http/ only keeps it.
    meaning: Meaning | None = field(default=None, compare=False)


Meaning = Callable[["Request"], bool]


class Request:
    """One request. Its headers are there from the start, its body when `receive` says so."""

    # What every request has stands in slots, the rest in the class until it is set: to fill a
    # dictionary for each request would cost twice as much.
    __slots__ = (
        *("__dict__", "_carrier", "accepted_at", "answer", "body", "head", "is_whole"),
        "on_disconnect",
    )

    answer: Response | None
    body: bytes | bytearray | memoryview
    on_disconnect: Callable[[], None] | None
    # Adds to the answer what a door says in all of its answers.
    finish: Callable[[Response], None] | None = None
    # The rest is kept for the connection.
    is_gone = False
    is_last = False
    # The client may be told to send the body that it holds back.
    is_permitted = False
    then: Callable[[Request], None] | None = None
    room: memoryview | None = None
    limit: int | None = None
    streamed: Stream | None = None

    def __init__(
        self, carrier: Carrier, head: Head, accepted_at: float, body: bytes | None = None
    ) -> None:
        """`body`: all of it, where it came with the head."""
        self._carrier = carrier
        self.head = head
        self.accepted_at = accepted_at
        self.body = body or b""
        # All of the body is here, and nobody has taken it yet.
        self.is_whole = body is not None
        self.answer = None
        self.on_disconnect = None
        if head.is_last:
            self.is_last = True

    @property
    def origin(self) -> Origin:
        """Who is at the other end."""
        return self._carrier.origin

    @property
    def method(self) -> str:
        """As it came: methods are in capital letters."""
        return self.head.method

    @property
    def path(self) -> str:
        """What stands before the `?`, as it came."""
        return self.head.path

    @property
    def headers(self) -> list[tuple[bytes, bytes]]:
        """Names and values, in their order; nobody changes the list."""
        return self.head.headers

    @property
    def content_length(self) -> int | None:
        """The bytes of the body; None: not known before its end."""
        return self.head.content_length

    @property
    def is_held(self) -> bool:
        """Whether its body is here and waits for a place."""
        return self.is_whole and self.answer is None and len(self.body) > 0

    @property
    def target(self) -> bytes:
        """Path and query as they came."""
        return self.head.target

    @property
    def query(self) -> str:
        """What follows the `?`."""
        return self.head.query

    @property
    def door(self) -> str:
        """The name of the listener that accepted it."""
        return self._carrier.origin.door

    @property
    def remote(self) -> str:
        """The client, for logs: `ADDRESS:PORT` or `unix`."""
        return self.origin.remote

    @property
    def peer(self) -> PeerCredentials | None:
        """The client's process; None unless it came by a Unix socket."""
        return self.origin.peer

    def header(self, lower_name: bytes) -> bytes | None:
        """The value of a header; of several the last."""
        for name, value in reversed(self.headers):
            if name.lower() == lower_name:
                return value
        return None

    def receive(
        self,
        then: Callable[[Request], None],
        room: memoryview | None = None,
        limit: int | None = None,
    ) -> None:
        """Say, once, where the body goes; `then` is called when it is complete.

        It goes straight into `room`, which is exactly as long, or to the heap, up to `limit` bytes.
        Until this is called nothing more is read from the connection."""
        assert self.then is None, "receive() is called once"
        if room is not None and room.nbytes != self.content_length:
            raise ValueError(f"a room of {room.nbytes} bytes for a body of {self.content_length}")
        self.then, self.room, self.limit = then, room, limit
        if self.is_gone:
            return
        if self.is_whole and (limit is None or len(self.body) <= limit):
            self.is_whole = False
            if room is not None:
                room[:] = self.body
                self.body = room
            then(self)
            self._carrier.read_on()
        else:
            self._carrier.read_body(self)

    def respond(self, response: Response) -> None:
        """Give the one answer. If nobody waits for it any more, it is dropped."""
        assert self.answer is None, "a request has one answer"
        self.answer = response
        if self.finish is not None:
            self.finish(response)
        if self.is_gone:
            response.free()
        else:
            self._carrier.ready(self)

    def stream(self, response: Response) -> Stream:
        """Give the answer's head now and its body in parts."""
        assert self.answer is None, "a request has one answer"
        self.answer = response
        if self.finish is not None:
            self.finish(response)
        # Nothing but the end of the connection tells an HTTP/1.0 client where the body ends.
        self.is_last = self.is_last or self.head.is_http_1_0
        self.streamed = Stream(self, self._carrier)
        if self.is_gone:
            self.streamed.is_open = False
            response.free()
        else:
            self._carrier.ready(self)
        return self.streamed

    def lose(self) -> None:
        """Nobody waits for the answer any more: tell the application, once."""
        self.is_gone = True
        answer, streamed = self.answer, self.streamed
        is_answered = answer is not None and (streamed is None or not streamed.is_open)
        if streamed is not None:
            streamed.is_open = False
        if answer is not None:
            answer.free()
        if self.on_disconnect is not None and not is_answered:
            self.on_disconnect()


class Stream:
    """An answer's body, sent in parts: chunks, or all until the end for HTTP/1.0."""

    __slots__ = ("_carrier", "_is_begun", "_parts", "_request", "is_broken", "is_open")

    def __init__(self, request: Request, carrier: Carrier) -> None:
        self._request = request
        self._carrier = carrier
        self._parts: list[bytes] = []
        self._is_begun = False
        # False once it has been ended, or the client has gone.
        self.is_open = True
        # Ended without its end: the connection is cut, so that the client can tell.
        self.is_broken = False

    @property
    def wants_pause(self) -> bool:
        """More is waiting than the client takes at present, or earlier answers are due first."""
        return bool(self._parts) or self._carrier.is_congested

    @property
    def waiting_bytes(self) -> int:
        """How much the client has not taken yet."""
        return sum(map(len, self._parts)) + self._carrier.unsent_bytes

    def send(self, part: bytes) -> None:
        """Send a part of the body; nothing happens when the client has gone."""
        if self.is_open and part and self._request.method != "HEAD":
            is_raw = self._request.head.is_http_1_0
            self._parts.append(part if is_raw else b"%x\r\n%b\r\n" % (len(part), part))
            self._carrier.ready(self._request)

    def end(self) -> None:
        """The body is complete."""
        if not self.is_open:
            return
        self.is_open = False
        if not self._request.head.is_http_1_0 and self._request.method != "HEAD":
            self._parts.append(LAST_CHUNK)
        self._carrier.ready(self._request)

    def break_off(self) -> None:
        """There will be no more, though the body is not complete."""
        if self.is_open:
            self.is_open = False
            self.is_broken = True
            self._carrier.ready(self._request)

    def take(self, response: Response, *, is_last: bool) -> bytes:
        """What has not been sent yet, from the head on."""
        parts, self._parts = self._parts, []
        if not self._is_begun:
            self._is_begun = True
            framing = b"" if self._request.head.is_http_1_0 else b"transfer-encoding: chunked\r\n"
            parts.insert(0, head_bytes(response, framing, is_last=is_last))
        return b"".join(parts)


def head_bytes(response: Response, framing: bytes, *, is_last: bool) -> bytes:
    """Status line and headers; `framing` says how the end of the body is known."""
    return b"HTTP/1.1 %d %b\r\n%b%bconnection: %b\r\n\r\n" % (
        response.status,
        response.reason,
        response.head,
        framing,
        b"close" if is_last else b"keep-alive",
    )


def whole(response: Response, *, has_body: bool, is_last: bool) -> bytes:
    """Head and body in one piece."""
    if response.status in BODILESS:
        return head_bytes(response, b"", is_last=is_last)
    return (LAST if is_last else KEPT) % (
        response.status,
        response.reason,
        response.head,
        len(response.body),
        response.body if has_body else b"",
    )
