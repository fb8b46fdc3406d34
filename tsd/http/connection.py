"""One client: its bytes become requests, one after the other, within the limits.

Requests are read in reader.py; answers are kept in order and written in answers.py.
The listener owns the connections and asks them, every second, to look at the time."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import cast

from tsd.http.answers import Answers, OnAnswer
from tsd.http.body import Heap, SizedBody
from tsd.http.head import HeadReader, KnownHeads
from tsd.http.inlet import Inlet
from tsd.http.message import Request
from tsd.http.origin import Origin, origin_of
from tsd.http.pace import LAST_WORD_S, LINGER_S, Pace
from tsd.http.reader import RequestReader
from tsd.http.refusal import MessageError, refused
from tsd.settings import HttpSettings

Handler = Callable[[Request], None]


@dataclass(frozen=True, slots=True)
class Terms:
    """What all connections of a listener share."""

    door: str
    limits: HttpSettings
    known_heads: KnownHeads
    handler: Handler
    clock: Callable[[], float]
    call_soon: Callable[[Callable[[], None]], object]
    heap: Heap
    # Whether there is room for the new connection.
    admit: Callable[[Connection], bool]
    forget: Callable[[Connection], None]
    # Called with the status of each answer that http/ makes by itself.
    count_refusal: Callable[[int], None]
    # Header lines for such answers.
    refusal_head: Callable[[], bytes]
    # The other answers, by the first digit of the status.
    answered: Counter[int] = field(default_factory=Counter)
    on_answer: OnAnswer | None = None


class Connection(asyncio.Protocol):
    """Reads requests from one transport and hands them on; at most one body is read at a time."""

    __slots__ = (
        "_answers",
        "_handler",
        "_inlet",
        "_is_draining",
        "_is_ending",
        "_is_reading",
        "_is_scheduled",
        "_lingers",
        "_pace",
        "_reader",
        "_terms",
        "_transport",
        "origin",
    )

    _answers: Answers
    _inlet: Inlet
    _pace: Pace
    _reader: RequestReader
    _transport: asyncio.Transport
    # Who is at the other end.
    origin: Origin

    def __init__(self, terms: Terms) -> None:
        self._terms = terms
        self._handler = terms.handler
        # Inside `_proceed`: what becomes ready now is written at its end, together.
        self._is_reading = False
        self._is_scheduled = False
        # The connection ends when all that has begun is answered.
        self._is_ending = False
        # That is so because the server stops.
        self._is_draining = False
        # The client may still be sending something when the last answer is written.
        self._lingers = False

    # From the transport.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """The listener has accepted a client."""
        self._transport = cast(asyncio.Transport, transport)
        terms = self._terms
        now = terms.clock()
        self._pace = Pace(terms.limits, now)
        self._inlet = Inlet(self, self._transport)
        self._answers = Answers(self._transport, now, terms.answered, terms.on_answer)
        heads = HeadReader(terms.limits, terms.known_heads)
        self._reader = RequestReader(
            self, heads, self._answers, terms.limits, terms.handler, terms.clock
        )
        self.origin = origin_of(self._transport, terms.door)
        if not terms.admit(self) and not transport.is_closing():
            self._refuse(503)
            self._flush()

    def data_received(self, data: bytes) -> None:
        """The client has sent something."""
        self._pace.idle_since = None
        reader, answers = self._reader, self._answers
        if reader.is_deaf:
            return
        # As `reader.is_quiet`, which would be called for every small request.
        if answers.waiting or reader.held or reader.incoming or answers.is_paused:
            self._proceed(reader.held + data)
        elif (request := reader.again(data)) is not None:
            answers.waiting.append(request)
            self._handler(request)
        else:
            self._read_first(data)

    def eof_received(self) -> bool:
        """The client sends nothing more; it may still wait for answers."""
        self._is_ending = True
        self._lingers = self._is_draining = False
        if self._pace.lingers_until is not None:
            return False
        self._withdraw_incoming()
        self._flush()
        # TLS has no half: who says that it ends has gone.
        return self._transport.can_write_eof()

    def connection_lost(self, exc: Exception | None) -> None:
        """The client has gone, or has been sent away."""
        self._reader.close()
        self._terms.forget(self)
        self._answers.lose()
        self._inlet.close()

    def pause_writing(self) -> None:
        """The client does not take its answers as fast as they come."""
        self._answers.is_paused = True

    def resume_writing(self) -> None:
        """The client has taken what was written."""
        self._answers.resume()
        self._advance()

    # From the requests.

    @property
    def heap(self) -> Heap:
        """Where bodies go that have no room."""
        return self._terms.heap

    @property
    def is_congested(self) -> bool:
        """The client takes less than it is sent."""
        return self._answers.is_paused

    @property
    def unsent_bytes(self) -> int:
        """What was written and the client has not taken."""
        return self._transport.get_write_buffer_size()

    def read_body(self, request: Request) -> None:
        """The request has said where its body goes."""
        if request.limit is not None and (request.content_length or 0) > request.limit:
            # Even if it came with its head.
            self._reader.incoming = request
            self._refuse(413)
        assert request is self._reader.incoming or self._reader.is_deaf
        if not self._is_reading:
            self._proceed(self._reader.held)

    def read_on(self) -> None:
        """A body that came with its head has found its place."""
        if not self._is_reading and (self._reader.held or self._inlet.is_paused):
            self._proceed(self._reader.held)

    def ready(self, request: Request) -> None:
        """The request has something to write."""
        reader = self._reader
        if reader.incoming is not None and request is reader.incoming:
            self._give_up_body(request)
        if self._is_reading:
            return
        if len(self._answers.waiting) > 1:
            self._advance_soon()
        elif not self._send_only(request):
            self._advance()

    # From the listener.

    def sweep(self, now: float) -> None:
        """Look at the time, once a second."""
        pace = self._pace
        if pace.is_resting(now):
            # Most are, where there are many: to look at all of each would cost ten times as much.
            return
        if pace.rests_until:
            pace.rests_until = 0.0
            self._answers.look_anew(now)
        self._look(pace, now)

    def _look(self, pace: Pace, now: float) -> None:
        limits = self._terms.limits
        if self._answers.is_stalled(now, limits.write_timeout_s) or pace.has_lingered(now):
            self._transport.abort()
        elif self._reader.is_deaf or self._inlet.is_paused:
            return
        elif self._reader.is_too_slow(pace, now):
            self._refuse(408)
            self._flush()
        elif self._reader.is_quiet:
            if pace.has_idled(now):
                self._end()
            elif not (self._reader.has_begun_head or self.unsent_bytes):
                pace.rest()

    @property
    def is_busy(self) -> bool:
        """Whether a request has begun and its answer is not written."""
        return self._reader.has_begun_head or not self._reader.is_quiet

    def drain(self) -> None:
        """Answer what has begun, or begins before `end_if_idle`, then close."""
        if not self._is_ending:
            self._is_ending = self._is_draining = True

    def end_if_idle(self) -> None:
        """Close if nothing has begun."""
        if self._is_ending and not self._answers.is_done:
            self._flush()

    def abort(self) -> None:
        """Close without another word."""
        self._transport.abort()

    # From the inlet.

    def end_direct(self) -> None:
        """The body has been read straight into its room."""
        self._inlet.end_direct()
        self._proceed(b"")

    # Reading.

    def _read_first(self, data: bytes) -> None:
        """The short way when nothing waits: saves a fifth of a small request's cost here."""
        self._is_reading = True
        position = len(data)
        try:
            position = self._reader.begin(data, 0)
        except MessageError as error:
            self._refuse(error.status)
        finally:
            self._is_reading = False
        if position < len(data) or not self._has_read_one():
            self._proceed(data[position:])

    def _has_read_one(self) -> bool:
        """Whether one request has come that is answered, or the application's, and no more."""
        waiting, reader = self._answers.waiting, self._reader
        if len(waiting) != 1 or reader.incoming is not None:
            return False
        if waiting[0].answer is not None:
            return self._send_only(waiting[0])
        return reader.may_use

    def _proceed(self, data: bytes) -> None:
        """Read on as far as may be, and write what became ready meanwhile."""
        reader = self._reader
        self._is_reading = True
        try:
            while True:
                self._use(data)
                self._flush()
                data = reader.held
                if not (data and reader.may_use):
                    break
        finally:
            self._is_reading = False
        self._settle()

    def _use(self, data: bytes) -> None:
        try:
            self._reader.use(data)
        except MessageError as error:
            self._refuse(error.status)

    def _settle(self) -> None:
        """Make the transport read, or not, and to where, as the state now asks."""
        reader = self._reader
        if reader.is_deaf or self._inlet.is_direct:
            return
        request = reader.incoming
        if request is not None and request.then is not None:
            body = reader.open_body()
            if request.head.expects_continue and not body.received:
                self._permit(request)
            if isinstance(body, SizedBody) and body.is_worth_direct:
                self._inlet.go_direct(body)
        if not reader.may_use:
            self._inlet.pause()
        elif self._inlet.is_paused:
            self._inlet.resume()

    def _permit(self, request: Request) -> None:
        """Let the client know, once and when its turn has come, that its body is awaited."""
        if not request.is_permitted:
            request.is_permitted = True
            self._answers.permitted = request
            self._flush()

    # Writing.

    def _advance_soon(self) -> None:
        """More may become ready in this turn of the loop; they leave in one write."""
        if not self._is_scheduled:
            self._is_scheduled = True
            self._terms.call_soon(self._advance)

    def _advance(self) -> None:
        """Write what is ready; read on if that made room."""
        self._is_scheduled = False
        self._flush()
        if self._reader.held and self._reader.may_use:
            self._proceed(self._reader.held)
        else:
            self._settle()

    def _send_only(self, request: Request) -> bool:
        """The short way of an answer that nothing else waits for; False: not for this one."""
        answers, reader = self._answers, self._reader
        if reader.is_deaf or self._is_ending or reader.held or reader.incoming is not None:
            return False
        if not answers.send_only(request):
            return False
        if answers.is_paused or self._inlet.is_paused:
            self._settle()
        return True

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
        reader = self._reader
        return reader.is_deaf or not (reader.held or reader.incoming or reader.has_begun_head)

    # Ending.

    def _give_up_body(self, request: Request) -> None:
        """It has been answered before its body was complete."""
        self._inlet.leave_direct()
        if not self._reader.drop_body():
            self._reader.stop()
            self._lingers = request.is_last = True

    def _withdraw_incoming(self) -> None:
        """Nothing more is read: a request without its body is not answered, unless it has been."""
        request = self._reader.incoming
        self._inlet.leave_direct()
        self._reader.stop()
        if request is not None and request.answer is None:
            self._answers.waiting.remove(request)
            request.lose()

    def _refuse(self, status: int) -> None:
        """What comes is no request: say so after all answers, and close."""
        self._terms.count_refusal(status)
        request = self._reader.incoming
        was_answered = request is not None and request.answer is not None
        self._withdraw_incoming()
        self._is_ending = self._lingers = True
        head = self._terms.refusal_head()
        has_begun = request is not None
        self._answers.final = b"" if was_answered else refused(status, head, has_begun=has_begun)

    def _end(self) -> None:
        """All is written: close, or wait until the client has seen the last answer."""
        reader = self._reader
        # A client that is still sending would be cut off by a close, and never see the answer.
        self._lingers = self._lingers or bool(reader.held) or reader.incoming is not None
        if self._is_draining and self._pace.idle_since is None:
            # It was busy a moment ago, and may have asked for more that has not come yet.
            self._lingers = True
        # What is lost below gives its room back: nothing may be read into that any more.
        self._inlet.leave_direct()
        reader.stop()
        self._answers.is_done = True
        self._answers.abandon()
        if self._lingers:
            self._pace.linger(self._terms.clock(), LAST_WORD_S if self._is_draining else LINGER_S)
            if self._transport.can_write_eof():
                self._transport.write_eof()
            self._inlet.resume()
        else:
            self._transport.close()
