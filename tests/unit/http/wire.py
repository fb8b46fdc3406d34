"""A client and the wire to it: the seam at which http/ is tested."""

from __future__ import annotations

import asyncio
from collections import Counter, deque
from collections.abc import Callable, Iterable

import msgspec

from tsd.http.body import Heap
from tsd.http.connection import Connection, Terms
from tsd.http.head import KnownHeads
from tsd.http.message import Request, Response
from tsd.settings import HttpSettings

Handler = Callable[[Request], None]
HIGH_WATER = 65_536
# What TLS adds to a record, at least.
RECORD_BYTES = 22
GET = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"


def echo(request: Request) -> None:
    """Answer with what was asked."""
    request.receive(lambda whole: whole.respond(Response(200, told(whole))))


def told(request: Request) -> bytes:
    """What a handler has seen of a request."""
    return b"%b %b %b|" % (request.method.encode(), request.path.encode(), bytes(request.body))


def settings(**changes: float) -> HttpSettings:
    """The defaults, but for some."""
    return msgspec.structs.replace(HttpSettings(), **changes)


def post(size: int, extra: bytes = b"") -> bytes:
    return b"POST / HTTP/1.1\r\nHost: a\r\n%bContent-Length: %d\r\n\r\n" % (extra, size)


def silent(request: Request) -> None:
    """Answer later, or not at all."""


def refuse(request: Request) -> None:
    """Answer without having asked for the body."""
    if request.method == "POST":
        request.respond(Response(404))
    else:
        request.respond(Response(200, told(request)))


class Wire(asyncio.Transport):
    """A transport whose other end is the test: it reads, blocks and breaks as it is told."""

    def __init__(self) -> None:
        super().__init__()
        self.protocol: asyncio.BaseProtocol = asyncio.Protocol()
        self.inbox: deque[bytes] = deque()
        self.writes: list[bytes] = []
        self.switches: list[str] = []
        self.reads = True
        self.is_closed = False
        self.is_aborted = False
        self.has_written_eof = False
        # As over TLS: there is no half of a connection, and what is written is taken at once.
        self.is_encrypted = False
        # What the client has not taken yet, and whether it takes anything.
        self.unsent = 0
        self.is_stuck = False
        self.is_writing_paused = False
        self.high = HIGH_WATER

    def get_extra_info(self, name: str, default: object = None) -> object:
        known = {"peername": ("127.0.0.1", 1234)}
        if self.is_encrypted:
            known["sslcontext"] = ("a context", 0)
        return known.get(name, default)

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        assert not self.reads, "the protocol is looked at only when reading starts"
        self.protocol = protocol
        self.switches.append(type(protocol).__name__)

    def pause_reading(self) -> None:
        assert self.reads
        self.reads = False

    def resume_reading(self) -> None:
        assert not self.reads
        self.reads = True

    def write(self, data: bytes | bytearray | memoryview) -> None:
        assert not self.has_written_eof
        self.writes.append(bytes(data))
        if self.is_stuck:
            self.unsent += len(data) + (RECORD_BYTES if self.is_encrypted else 0)
            if self.unsent > self.high and not self.is_writing_paused:
                self.is_writing_paused = True
                self.protocol.pause_writing()

    def is_reading(self) -> bool:
        return self.reads

    def can_write_eof(self) -> bool:
        return not self.is_encrypted

    def write_eof(self) -> None:
        self.has_written_eof = True

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        self.high = HIGH_WATER if high is None else high

    def get_write_buffer_size(self) -> int:
        return self.unsent

    def is_closing(self) -> bool:
        return self.is_closed

    def close(self) -> None:
        self.is_closed = True

    def abort(self) -> None:
        self.is_closed = self.is_aborted = True
        self.unsent = 0

    def take(self, count: int | None = None) -> None:
        """The client takes what waits for it, or some bytes of it."""
        self.unsent -= self.unsent if count is None else count
        if self.is_writing_paused and self.unsent == 0:
            self.is_writing_paused = False
            self.protocol.resume_writing()

    def deliver(self) -> None:
        """Hand on what the client has sent, while the connection reads."""
        while self.inbox and self.reads and not self.is_closed:
            piece = self.inbox.popleft()
            if isinstance(self.protocol, asyncio.BufferedProtocol):
                room = memoryview(self.protocol.get_buffer(-1))
                count = min(len(room), len(piece))
                room[:count] = piece[:count]
                if piece[count:]:
                    self.inbox.appendleft(piece[count:])
                self.protocol.buffer_updated(count)
            else:
                assert isinstance(self.protocol, asyncio.Protocol)
                self.protocol.data_received(piece)


class Client:
    """One client of a connection, and the application behind it."""

    def __init__(
        self,
        handler: Handler = echo,
        limits: HttpSettings | None = None,
        known_heads: KnownHeads | None = None,
        heap: Heap | None = None,
        door: str = "http",
    ) -> None:
        self.now = 1000.0
        self.soon: list[Callable[[], None]] = []
        self.requests: list[Request] = []
        self.refusals: list[int] = []
        self.answered: Counter[int] = Counter()
        self.told: list[tuple[str, int]] = []
        self.known_heads = KnownHeads() if known_heads is None else known_heads
        self.forgotten: list[Connection] = []
        self.heap = Heap() if heap is None else heap
        self._handler = handler
        self.wire = Wire()
        self.connection = Connection(
            Terms(
                door=door,
                limits=HttpSettings() if limits is None else limits,
                known_heads=self.known_heads,
                heap=self.heap,
                handler=self._handle,
                clock=lambda: self.now,
                call_soon=self.soon.append,
                admit=lambda _connection: True,
                forget=self.forgotten.append,
                count_refusal=self.refusals.append,
                refusal_head=bytes,
                answered=self.answered,
                on_answer=lambda request, response: self.told.append(
                    (request.path, response.status)
                ),
            )
        )
        self.wire.protocol = self.connection
        self.connection.connection_made(self.wire)

    def _handle(self, request: Request) -> None:
        self.requests.append(request)
        self._handler(request)

    def send(self, data: bytes, cuts: Iterable[int] = ()) -> None:
        """Send bytes, in as many pieces as there are cuts, and let the loop turn."""
        start = 0
        for cut in [*sorted(cuts), len(data)]:
            if data[start:cut]:
                self.wire.inbox.append(data[start:cut])
            start = max(start, cut)
            self.turn()

    def send_bytewise(self, data: bytes) -> None:
        self.send(data, range(len(data)))

    def turn(self) -> None:
        """Let the loop turn until nothing moves."""
        self.wire.deliver()
        while self.soon:
            self.soon.pop(0)()
            self.wire.deliver()

    def end(self) -> None:
        """Send nothing more."""
        protocol = self.wire.protocol
        assert isinstance(protocol, asyncio.Protocol | asyncio.BufferedProtocol)
        if not protocol.eof_received():
            self.wire.close()

    def go(self) -> None:
        """Be gone."""
        self.wire.is_closed = True
        assert isinstance(self.wire.protocol, asyncio.BaseProtocol)
        self.wire.protocol.connection_lost(None)

    def wait(self, seconds: float) -> None:
        """Let time pass, with a sweep in every second."""
        for _second in range(int(seconds)):
            self.now += 1.0
            if not self.wire.is_aborted:
                self.connection.sweep(self.now)

    @property
    def got(self) -> bytes:
        """All that the client was sent."""
        return b"".join(self.wire.writes)

    @property
    def is_ended(self) -> bool:
        """Nothing more will come from the server."""
        return self.wire.is_closed or self.wire.has_written_eof


def answer(body: bytes, *, is_last: bool = False, status: int = 200) -> bytes:
    """The bytes of a plain answer."""
    return b"HTTP/1.1 %d \r\ncontent-length: %d\r\nconnection: %b\r\n\r\n%b" % (
        status,
        len(body),
        b"close" if is_last else b"keep-alive",
        body,
    )
