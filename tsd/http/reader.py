"""What comes in on one connection becomes requests: heads, and bodies to where they belong.

Heads are read in head.py, bodies in body.py. When to read, what is refused, and when the connection
ends is decided in connection.py."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from tsd.http.answers import Answers
from tsd.http.body import Body, DroppedBody, Heap, body_of
from tsd.http.head import HeadReader
from tsd.http.message import Carrier, Request
from tsd.http.pace import Pace
from tsd.settings import HttpSettings

# The rest of a refused body is read, to keep the connection, if it is not longer than this.
DROPPED_BYTES = 64 * 1024


class Owner(Carrier, Protocol):
    """The connection, as far as this file knows it."""

    @property
    def heap(self) -> Heap: ...


class RequestReader:
    """One request after the other; at most one body is read at a time."""

    __slots__ = (
        "_answers",
        "_carrier",
        "_clock",
        "_handler",
        "_heads",
        "_limits",
        "body",
        "head_since",
        "held",
        "incoming",
        "is_deaf",
    )

    def __init__(
        self,
        carrier: Owner,
        heads: HeadReader,
        answers: Answers,
        limits: HttpSettings,
        handler: Callable[[Request], None],
        clock: Callable[[], float],
    ) -> None:
        self._carrier = carrier
        self._heads = heads
        self._answers = answers
        self._limits = limits
        self._handler = handler
        self._clock = clock
        # The request whose body is not complete, and that body once its place is known.
        self.incoming: Request | None = None
        self.body: Body | None = None
        # When the present head began.
        self.head_since = 0.0
        # Bytes that may not be used yet; meanwhile nothing is read, so they are one read at most.
        self.held = b""
        # What still comes is not looked at.
        self.is_deaf = False

    @property
    def is_quiet(self) -> bool:
        """Whether all that has come is used, and answered."""
        return not (self._answers.waiting or self.held or self.incoming or self._answers.is_paused)

    @property
    def has_begun_head(self) -> bool:
        """Whether a head has come in part."""
        return self._heads.fed_bytes > 0

    @property
    def may_use(self) -> bool:
        """Whether what comes can be used now."""
        if self.is_deaf:
            return False
        if self.incoming is not None:
            return self.incoming.then is not None or self.body is not None
        answers = self._answers
        waiting = answers.waiting
        if waiting and waiting[-1].is_held:
            return False
        return not answers.is_paused and len(waiting) < self._limits.max_pipelined

    def is_too_slow(self, pace: Pace, now: float) -> bool:
        """Whether more of what has begun should be there by now."""
        if self._heads.fed_bytes:
            return pace.is_head_slow(self.head_since, now)
        return self.body is not None and pace.is_body_slow(self.body, now)

    def use(self, data: bytes) -> None:
        """Use what has come as far as it may be used now, and hold the rest."""
        self.held = b""
        position = 0
        while True:
            if self.body is not None and self.body.is_complete:
                self._complete_body()
            elif position == len(data) or not self.may_use:
                break
            elif self.incoming is None:
                position = self.begin(data, position)
            else:
                position = self.open_body().feed(data, position)
        if not self.is_deaf:
            self.held = data[position:]

    def again(self, data: bytes) -> Request | None:
        """The short way of the usual: the same head as before with all of its body, and no more.

        The caller has made sure that nothing else has begun."""
        heads = self._heads
        if len(data) != heads.again_bytes or not data.startswith(heads.last_piece):
            return None
        head = heads.last_head
        assert head is not None
        body = data[len(heads.last_piece) :]
        return Request(self._carrier, head, self._clock(), body)

    def begin(self, data: bytes, position: int) -> int:
        """Read a head, and a small body if it came with it; returns where that ended."""
        heads = self._heads
        if not heads.fed_bytes:
            self.head_since = self._clock()
        position, head = heads.read(data, position)
        if head is None:
            return position
        length = head.content_length
        if length is not None and position + length <= len(data):
            stop = position + length
            self.is_deaf = head.is_last
            request = Request(self._carrier, head, self.head_since, data[position:stop])
            self._answers.waiting.append(request)
            self._handler(request)
            return stop
        request = Request(self._carrier, head, self.head_since)
        self._answers.waiting.append(request)
        self.incoming = request
        self._handler(request)
        return position

    def open_body(self) -> Body:
        """The body that is being read, from when its place is known."""
        if self.body is None:
            assert self.incoming is not None
            self.body = body_of(self.incoming, self._limits, self._carrier.heap, self._clock())
        return self.body

    def drop_body(self) -> bool:
        """Its request has been answered: read past the rest; False if that is not worth it."""
        request = self.incoming
        assert request is not None
        received = 0 if self.body is None else self.body.received
        rest = None if request.content_length is None else request.content_length - received
        if rest is None or rest > DROPPED_BYTES or request.is_last or _holds_back(request):
            return False
        self.body = DroppedBody(rest, self._clock())
        return True

    def stop(self) -> None:
        """Look at nothing that still comes."""
        self.is_deaf = True
        self.held = b""
        self.incoming = self.body = None

    def close(self) -> None:
        """The client has gone."""
        self.stop()
        self._heads.close()
        # Without this ring, all of the connection goes at once, and not when garbage is looked for.
        del self._carrier

    def _complete_body(self) -> None:
        request, body = self.incoming, self.body
        assert request is not None
        self.incoming = self.body = None
        self.is_deaf = request.is_last
        if not isinstance(body, DroppedBody) and body is not None and request.then is not None:
            request.body = body.content()
            request.then(request)


def _holds_back(request: Request) -> bool:
    """Whether the client may send the body, or not, now that it knows the answer."""
    return request.head.expects_continue and not request.is_permitted
