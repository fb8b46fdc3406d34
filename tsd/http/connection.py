"""One client: its bytes become requests, one after the other, within the limits.

Heads are read in head.py, bodies in body.py; answers are kept in order and written in answers.py.
The listener owns the connections and asks them, every second, to look at the time."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import cast

from tsd.http.answers import Answers
from tsd.http.body import Body, DroppedBody, SizedBody, body_of
from tsd.http.head import HeadReader, KnownHeads
from tsd.http.inlet import DirectReader, Inlet
from tsd.http.message import Request
from tsd.http.origin import Origin, origin_of
from tsd.http.pace import Pace
from tsd.http.refusal import REFUSALS, MessageError
from tsd.settings import HttpSettings

Handler = Callable[[Request], None]

# The rest of a refused body is read, to keep the connection, if it is not longer than this.
DROPPED_BYTES = 64 * 1024


@dataclass(frozen=True, slots=True)
class Terms:
    """What all connections of a listener share."""

    door: str
    limits: HttpSettings
    known_heads: KnownHeads
    handler: Handler
    clock: Callable[[], float]
    call_soon: Callable[[Callable[[], None]], object]
    # Whether there is room for the new connection.
    admit: Callable[[Connection], bool]
    forget: Callable[[Connection], None]
    # Called with the status of each answer that http/ makes by itself.
    count_refusal: Callable[[int], None]


class Connection(asyncio.Protocol):
    """Reads requests from one transport and hands them on; at most one body is read at a time."""

    __slots__ = (
        "_answers",
        "_body",
        "_heads",
        "_held",
        "_incoming",
        "_inlet",
        "_is_deaf",
        "_is_ending",
        "_is_reading",
        "_is_scheduled",
        "_lingers",
        "_origin",
        "_pace",
        "_terms",
        "_transport",
    )

    _answers: Answers
    _inlet: Inlet
    _origin: Origin
    _pace: Pace
    _transport: asyncio.Transport

    def __init__(self, terms: Terms) -> None:
        self._terms = terms
        self._heads = HeadReader(terms.limits, terms.known_heads)
        # The request whose body is not complete, and that body once its place is known.
        self._incoming: Request | None = None
        self._body: Body | None = None
        # Bytes that may not be used yet; meanwhile nothing is read, so they are one read at most.
        self._held = b""
        # Inside `_proceed`: what becomes ready now is written at its end, together.
        self._is_reading = False
        self._is_scheduled = False
        # What still comes is not looked at.
        self._is_deaf = False
        # The connection ends when all that has begun is answered.
        self._is_ending = False
        # The client may still be sending something when the last answer is written.
        self._lingers = False

    # From the transport.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """The listener has accepted a client."""
        self._transport = cast(asyncio.Transport, transport)
        now = self._terms.clock()
        self._pace = Pace(self._terms.limits, now)
        self._inlet = Inlet(self, self._transport)
        self._answers = Answers(self._transport, now)
        self._origin = origin_of(self._transport, self._terms.door)
        if not self._terms.admit(self) and not transport.is_closing():
            self._refuse(503)
            self._flush()

    def data_received(self, data: bytes) -> None:
        """The client has sent something."""
        self._pace.idle_since = None
        if not self._is_deaf:
            self._proceed(self._held + data if self._held else data)

    def eof_received(self) -> bool:
        """The client sends nothing more; it may still wait for answers."""
        self._is_deaf = self._is_ending = True
        self._lingers = False
        if self._pace.lingers_until is not None:
            return False
        self._withdraw_incoming()
        self._heads.renew()
        self._flush()
        return True

    def connection_lost(self, exc: Exception | None) -> None:
        """The client has gone, or has been sent away."""
        self._is_deaf = True
        self._held = b""
        self._incoming = self._body = None
        self._heads.close()
        self._terms.forget(self)
        self._answers.lose()

    def pause_writing(self) -> None:
        """The client does not take its answers as fast as they come."""
        self._answers.is_paused = True

    def resume_writing(self) -> None:
        """The client has taken what was written."""
        self._answers.resume()
        self._advance()

    # From the requests.

    @property
    def is_congested(self) -> bool:
        """The client takes less than it is sent."""
        return self._answers.is_paused

    def read_body(self, request: Request) -> None:
        """The request has said where its body goes."""
        assert request is self._incoming
        if request.limit is not None and (request.content_length or 0) > request.limit:
            self._refuse(413)
        if not self._is_reading:
            self._proceed(self._held)

    def ready(self, request: Request) -> None:
        """The request has something to write."""
        if request is self._incoming:
            self._give_up_body(request)
        if self._is_reading:
            return
        if len(self._answers.waiting) == 1:
            self._advance()
        elif not self._is_scheduled:
            # More may become ready in this turn of the loop; they leave in one write.
            self._is_scheduled = True
            self._terms.call_soon(self._advance)

    # From the listener.

    def sweep(self, now: float) -> None:
        """Look at the time, once a second."""
        limits = self._terms.limits
        if self._answers.is_stalled(now, limits.write_timeout_s) or self._pace.has_lingered(now):
            self._transport.abort()
        elif self._is_deaf or self._inlet.is_paused:
            return
        elif self._is_too_slow(now):
            self._refuse(408)
            self._flush()
        elif self._is_idle() and self._pace.has_idled(now):
            self._end()

    def drain(self) -> None:
        """Answer what has begun, then close."""
        self._is_ending = True

    def end_if_idle(self) -> None:
        """Close if nothing has begun."""
        if self._is_ending and not self._answers.is_done:
            self._flush()

    def abort(self) -> None:
        """Close without another word."""
        self._transport.abort()

    # From the direct reader.

    def end_direct(self) -> None:
        """The body has been read straight into its room."""
        self._inlet.leave_direct()
        self._proceed(b"")

    # Reading.

    def _proceed(self, data: bytes) -> None:
        """Use what has come as far as it may be used now, and hold the rest."""
        self._is_reading = True
        try:
            while True:
                self._held = b""
                self._held = data = self._use(data)
                self._flush()
                if not (data and self._may_use()):
                    break
        finally:
            self._is_reading = False
        self._settle()

    def _use(self, data: bytes) -> bytes:
        """Returns what may not be used yet."""
        position = 0
        try:
            while True:
                if self._body is not None and self._body.is_complete:
                    self._complete_body()
                elif position == len(data) or not self._may_use():
                    return b"" if self._is_deaf else data[position:]
                elif self._incoming is None:
                    position = self._read_head(data, position)
                else:
                    position = self._open_body().feed(data, position)
        except MessageError as error:
            self._refuse(error.status)
            return b""

    def _may_use(self) -> bool:
        if self._is_deaf:
            return False
        if self._incoming is not None:
            return self._incoming.then is not None or self._body is not None
        answers = self._answers
        return not answers.is_paused and len(answers.waiting) < self._terms.limits.max_pipelined

    def _read_head(self, data: bytes, position: int) -> int:
        if not self._heads.fed_bytes:
            self._pace.head_since = self._terms.clock()
        position, head = self._heads.read(data, position)
        if head is None:
            return position
        request = Request(self, self._origin, head, self._pace.head_since)
        self._answers.waiting.append(request)
        if request.content_length == 0:
            self._is_deaf = request.is_last
            self._terms.handler(request)
            return position
        self._incoming = request
        self._terms.handler(request)
        return self._take_whole_body(request, data, position)

    def _take_whole_body(self, request: Request, data: bytes, position: int) -> int:
        """The short way of a small body that came with its head; else the loop goes on."""
        if request.content_length is None or request.then is None:
            return position
        stop = position + request.content_length
        if stop > len(data) or request is not self._incoming or self._body is not None:
            return position
        piece = data[position:stop]
        if request.room is None:
            request.body = piece
        else:
            request.room[:] = piece
            request.body = request.room
        self._incoming = None
        self._is_deaf = request.is_last
        request.then(request)
        return stop

    def _open_body(self) -> Body:
        if self._body is None:
            assert self._incoming is not None
            self._body = body_of(self._incoming, self._terms.limits, self._terms.clock())
        return self._body

    def _complete_body(self) -> None:
        request, body = self._incoming, self._body
        assert request is not None
        self._incoming = self._body = None
        self._is_deaf = request.is_last
        if not isinstance(body, DroppedBody) and body is not None and request.then is not None:
            request.body = body.content()
            request.then(request)

    def _settle(self) -> None:
        """Make the transport read, or not, and to where, as the state now asks."""
        if self._is_deaf or self._inlet.is_direct:
            return
        request = self._incoming
        if request is not None and request.then is not None:
            body = self._open_body()
            if request.head.expects_continue and not body.received:
                self._permit(request)
            if isinstance(body, SizedBody) and body.is_worth_direct:
                self._inlet.go_direct(DirectReader(self, body))
        if not self._may_use():
            self._inlet.pause()
        elif self._inlet.is_paused:
            self._inlet.resume()

    def _permit(self, request: Request) -> None:
        """Let the client know, once and when its turn has come, that its body is awaited."""
        if not request.is_permitted:
            request.is_permitted = True
            self._answers.permitted = request
            self._flush()

    # Ending.

    def _give_up_body(self, request: Request) -> None:
        """It has been answered before its body was complete."""
        self._inlet.leave_direct()
        received = 0 if self._body is None else self._body.received
        rest = None if request.content_length is None else request.content_length - received
        if rest is None or rest > DROPPED_BYTES or request.is_last or self._holds_back(request):
            self._incoming = self._body = None
            self._is_deaf = self._lingers = request.is_last = True
        else:
            self._body = DroppedBody(rest, self._terms.clock())

    def _holds_back(self, request: Request) -> bool:
        """Whether the client may send the body, or not, now that it knows the answer."""
        return request.head.expects_continue and not request.is_permitted

    def _withdraw_incoming(self) -> None:
        """The rest of its body does not come: it is not answered, unless it has been."""
        request = self._incoming
        self._inlet.leave_direct()
        self._incoming = self._body = None
        if request is not None and request.answer is None:
            self._answers.waiting.remove(request)
            request.lose()

    def _refuse(self, status: int) -> None:
        """What comes is no request: say so after all answers, and close."""
        self._terms.count_refusal(status)
        was_answered = self._incoming is not None and self._incoming.answer is not None
        self._withdraw_incoming()
        self._is_deaf = self._is_ending = self._lingers = True
        self._held = b""
        self._answers.final = b"" if was_answered else REFUSALS[status]

    def _advance(self) -> None:
        """Write what is ready; read on if that made room."""
        self._is_scheduled = False
        self._flush()
        if self._held and self._may_use():
            self._proceed(self._held)
        else:
            self._settle()

    def _flush(self) -> None:
        answers = self._answers
        answers.flush(ends=self._is_ending and self._has_no_input())
        if (
            answers.is_done
            and not self._transport.is_closing()
            and self._pace.lingers_until is None
        ):
            self._end()

    def _has_no_input(self) -> bool:
        if self._is_deaf:
            return True
        return not (self._held or self._incoming or self._heads.fed_bytes)

    def _end(self) -> None:
        """All is written: close, or wait until the client has seen the last answer."""
        # A client that is still sending would be cut off by a close, and never see the answer.
        self._lingers = self._lingers or bool(self._held) or self._incoming is not None
        self._is_deaf = self._answers.is_done = True
        self._held = b""
        self._answers.abandon()
        if self._lingers:
            self._pace.linger(self._terms.clock())
            self._transport.write_eof()
            self._inlet.resume()
        else:
            self._transport.close()

    def _is_too_slow(self, now: float) -> bool:
        if self._heads.fed_bytes:
            return self._pace.is_head_slow(now)
        return self._body is not None and self._pace.is_body_slow(self._body, now)

    def _is_idle(self) -> bool:
        return not self._answers.waiting and self._incoming is None
