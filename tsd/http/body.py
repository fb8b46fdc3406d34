"""Bodies of requests: of known length into a room or on the heap, chunked, or dropped.

A body takes bytes until it is complete and says where it stopped. Of large ones with a room the
transport reads the rest straight into the room (inlet.py)."""

from __future__ import annotations

import re
from collections.abc import Callable

from tsd.http.message import Request
from tsd.http.refusal import MessageError
from tsd.settings import HttpSettings

# From so many bytes on, reading straight into the room pays for switching the protocol.
DIRECT_BYTES = 256 * 1024
# Larger reads cost more: the copy leaves the processor's cache.
READ_BYTES = 256 * 1024

CHUNK_LINE = re.compile(rb"([0-9A-Fa-f]{1,16})(;[\t\x20-\x7e\x80-\xff]*)?\r\n")
TRAILER_LINE = re.compile(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+:[\t\x20-\x7e\x80-\xff]*\r\n")


class Heap:
    """How many bytes of bodies of one door are on the heap."""

    __slots__ = ("used_bytes",)

    def __init__(self) -> None:
        self.used_bytes = 0


class HeapBytes(bytearray):
    """Bytes that are counted as long as they are there, whoever holds them."""

    def __init__(self, heap: Heap, limit: int) -> None:
        super().__init__()
        self._heap = heap
        self._limit = limit

    def grow(self, piece: memoryview) -> None:
        """Append; MessageError when all together would be more than the limit."""
        if self._heap.used_bytes + len(piece) > self._limit:
            raise MessageError(503)
        self += piece
        self._heap.used_bytes += len(piece)

    def __del__(self) -> None:
        self._heap.used_bytes -= len(self)


class SizedBody:
    """A body of known length: copied into its room, or collected on the heap as it comes."""

    __slots__ = ("_place", "_size", "is_complete", "received", "since")

    def __init__(self, size: int, place: memoryview | HeapBytes, since: float) -> None:
        self._size = size
        self._place = place
        self.since = since
        self.received = 0
        self.is_complete = False

    @property
    def remaining(self) -> int:
        """Bytes still to come."""
        return self._size - self.received

    @property
    def is_worth_direct(self) -> bool:
        """Whether the rest should be read straight into the room."""
        return isinstance(self._place, memoryview) and self.remaining >= DIRECT_BYTES

    def feed(self, data: bytes, start: int) -> int:
        """Take what belongs to the body; returns where that ended."""
        stop = min(len(data), start + self.remaining)
        piece = memoryview(data)[start:stop]
        if isinstance(self._place, HeapBytes):
            self._place.grow(piece)
        else:
            self._place[self.received : self.received + len(piece)] = piece
        self.advance(len(piece))
        return stop

    def free_room(self) -> memoryview:
        """Where the next bytes go; never beyond this body, so that no other request gets in."""
        assert isinstance(self._place, memoryview)
        return self._place[self.received : self.received + READ_BYTES]

    def advance(self, count: int) -> None:
        """So many more bytes are there."""
        self.received += count
        self.is_complete = self.received == self._size

    def content(self) -> bytearray | memoryview:
        """The body, once it is complete."""
        return self._place


class DroppedBody:
    """The rest of a body that nobody wants, read so that the connection can be kept."""

    __slots__ = ("_size", "is_complete", "received", "since")

    def __init__(self, size: int, since: float) -> None:
        self._size = size
        self.since = since
        self.received = 0
        self.is_complete = False

    def feed(self, data: bytes, start: int) -> int:
        """Take what belongs to the body; returns where that ended."""
        stop = min(len(data), start + self._size - self.received)
        self.received += stop - start
        self.is_complete = self.received == self._size
        return stop


class ChunkedBody:
    """A body that comes in chunks, collected on the heap up to a limit.

    Chunk extensions and trailers are read, bounded and dropped."""

    __slots__ = (
        "_left",
        "_limit",
        "_limits",
        "_line",
        "_overhead",
        "_place",
        "_read_line",
        "is_complete",
        "received",
        "since",
    )

    def __init__(self, limits: HttpSettings, limit: int, place: HeapBytes, since: float) -> None:
        self._limits = limits
        self._limit = limit
        self._place = place
        self._line = b""
        self._left = 0
        self._overhead = 0
        # A plain function: a bound method would tie a ring around the body's memory.
        self._read_line: Callable[[ChunkedBody, bytes], None] = ChunkedBody._read_size
        self.since = since
        self.received = 0
        self.is_complete = False

    def feed(self, data: bytes, start: int) -> int:
        """Take what belongs to the body; returns where that ended."""
        position = start
        while position < len(data) and not self.is_complete:
            step = self._feed_data if self._left else self._feed_line
            position = step(data, position)
        self.received += position - start
        return position

    def content(self) -> bytearray:
        """The body, once it is complete."""
        return self._place

    def _feed_data(self, data: bytes, start: int) -> int:
        stop = min(len(data), start + self._left)
        self._place.grow(memoryview(data)[start:stop])
        self._left -= stop - start
        return stop

    def _feed_line(self, data: bytes, start: int) -> int:
        found = data.find(b"\n", start)
        stop = len(data) if found < 0 else found + 1
        line = self._line + data[start:stop]
        if len(line) > self._limits.max_header_bytes:
            raise MessageError(431)
        if found < 0:
            self._line = line
        else:
            self._line = b""
            self._read_line(self, line)
        return stop

    def _read_size(self, line: bytes) -> None:
        matched = CHUNK_LINE.fullmatch(line)
        if matched is None:
            raise MessageError(400)
        self._count_overhead(len(matched[2] or b""))
        self._left = int(matched[1], 16)
        if len(self._place) + self._left > self._limit:
            raise MessageError(413)
        self._read_line = ChunkedBody._read_data_end if self._left else ChunkedBody._read_trailer

    def _read_data_end(self, line: bytes) -> None:
        if line != b"\r\n":
            raise MessageError(400)
        self._read_line = ChunkedBody._read_size

    def _read_trailer(self, line: bytes) -> None:
        if line == b"\r\n":
            self.is_complete = True
            return
        if TRAILER_LINE.fullmatch(line) is None:
            raise MessageError(400)
        self._count_overhead(len(line))

    def _count_overhead(self, count: int) -> None:
        self._overhead += count
        if self._overhead > self._limits.max_headers_bytes:
            raise MessageError(431)


def body_of(
    request: Request, limits: HttpSettings, heap: Heap, now: float
) -> SizedBody | ChunkedBody:
    """The body that a request has announced and said the place of."""
    # The largest body has room there where no other one is.
    own = HeapBytes(heap, max(limits.max_heap_bytes, limits.max_request_bytes))
    if request.content_length is None:
        limit = limits.max_request_bytes if request.limit is None else request.limit
        return ChunkedBody(limits, limit, own, now)
    place = own if request.room is None else request.room
    return SizedBody(request.content_length, place, now)


# `feed` takes what comes; `received` bytes have come since `since`.
Body = SizedBody | ChunkedBody | DroppedBody
