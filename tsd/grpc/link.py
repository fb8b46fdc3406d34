"""One gRPC client's connection and the one to the library's server that was made for it.

Bytes are carried both ways, as fast as both sides take them. At the end it is the link that tells
the client to ask elsewhere, by a GOAWAY of its own: the library's server would lose calls that come
while it shuts down."""

from __future__ import annotations

import asyncio
import fcntl
import sys
import termios
from collections.abc import Callable
from typing import cast

from tsd.grpc.frames import (
    ALL_STREAMS,
    DATA,
    END_STREAM,
    GOAWAY,
    HEADERS,
    PREFACE_BYTES,
    RST_STREAM,
    FrameReader,
    goaway,
    window_update,
)

# A side that is told the end is cut off when it has taken nothing for so long.
LINGER_S = 1.0
# A client that says so many frames at once has to rest: all others wait while they are looked at.
MANY_FRAMES = 1_000
REST_A_FRAME_S = 5e-6


class End(asyncio.Protocol):
    """One of the two ends of a link."""

    def __init__(self, on_data: Callable[[bytes], None], on_lost: Callable[[], None]) -> None:
        self.transport: asyncio.Transport | None = None
        self.is_there = False
        self._is_finished = False
        # For how many reasons what it says has to wait.
        self._holds = 0
        # What was said to it before it was connected: the server's settings.
        self._early = b""
        self._other = self
        self._on_data = on_data
        self._on_lost = on_lost

    def face(self, other: End) -> None:
        """Who takes what this one says."""
        self._other, other._other = other, self

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Connected."""
        self.transport = cast(asyncio.Transport, transport)
        self.is_there = True
        self.write(self._early)

    def data_received(self, data: bytes) -> None:
        """It says something."""
        self._on_data(data)

    def connection_lost(self, exc: Exception | None) -> None:
        """It is gone."""
        self.is_there = False
        self._on_lost()

    def pause_writing(self) -> None:
        """It takes less than the other one says."""
        self._other.hold()

    def resume_writing(self) -> None:
        """It has taken what there was."""
        self._other.go_on()

    def hold(self) -> None:
        """Let what it says wait in the kernel."""
        self._holds += 1
        if self._holds == 1:
            self._set_reading(wanted=False)

    def go_on(self) -> None:
        """Let it speak again."""
        self._holds -= 1
        if not self._holds:
            self._set_reading(wanted=True)

    def rest(self, seconds: float) -> None:
        """Let it speak again only then."""
        self.hold()
        asyncio.get_running_loop().call_later(seconds, self.go_on)

    def _set_reading(self, *, wanted: bool) -> None:
        if self.transport is None or not self.is_there or self.transport.is_closing():
            return
        if wanted:
            self.transport.resume_reading()
        else:
            self.transport.pause_reading()

    def write(self, data: bytes) -> None:
        """Say this to it."""
        if self.transport is None:
            self._early += data
        elif data and not (self._is_finished or self.transport.is_closing()):
            self.transport.write(data)

    def finish(self) -> None:
        """Say no more; what has been written still goes out, and what comes is dropped."""
        if self.transport is None or self._is_finished or self.transport.is_closing():
            return
        self._is_finished = True
        # A close while something comes would be a reset, which can overtake what was written.
        if self.transport.can_write_eof():
            self.transport.write_eof()
        else:
            self.transport.close()
        self._linger(self._untaken())

    def abort(self) -> None:
        """Cut it off."""
        if self.transport is not None:
            self.transport.abort()

    def look_after_end(self, before: int) -> None:
        """Told the end, it had not taken so much: cut it off unless that has become less."""
        untaken = self._untaken()
        if untaken < before:
            self._linger(untaken)
        else:
            self.abort()

    def _linger(self, untaken: int) -> None:
        asyncio.get_running_loop().call_later(LINGER_S, self.look_after_end, untaken)

    def _untaken(self) -> int:
        """What was written and has not arrived; the kernel's part may be megabytes."""
        if self.transport is None or not self.is_there:
            return 0
        in_kernel = 0
        if connected := self.transport.get_extra_info("socket"):
            found = fcntl.ioctl(connected.fileno(), termios.TIOCOUTQ, bytes(4))
            in_kernel = int.from_bytes(found, sys.byteorder)
        return self.transport.get_write_buffer_size() + in_kernel


class Link:
    """Made when a client is accepted; `on_end` is called when nothing is left of it."""

    def __init__(self, on_call: Callable[[], None], on_end: Callable[[Link], None]) -> None:
        # The calls that have begun and not ended.
        self.streams: set[int] = set()
        self.client = End(self._from_client, self._on_lost)
        self.server = End(self._from_server, self._on_lost)
        self.client.face(self.server)
        self._on_call = on_call
        self._on_end = on_end
        self._asked = FrameReader(self._look_at_asked, preface_bytes=PREFACE_BYTES)
        self._answered = FrameReader(self._look_at_answered)
        self._last_stream = 0
        # Streams above this one are not begun any more.
        self._limit = ALL_STREAMS
        # What the client is to hear as soon as it stands between two frames.
        self._farewell = b""
        self._has_greeted = False
        self._is_sent_away = False
        self._is_leaving = False
        # Of calls that are not begun: the client may send as much again.
        self._dropped_bytes = 0

    def say_goaway(self) -> None:
        """The client is to make new calls elsewhere; those that still come are served."""
        if not self._is_sent_away:
            self._farewell = goaway(ALL_STREAMS)
            self._say_farewell()

    def refuse_new_calls(self) -> None:
        """Begin no call any more, tell the client which have begun, and end with the last."""
        self._is_leaving = True
        self._limit = self._last_stream
        self._farewell = goaway(self._limit)
        self._say_farewell()

    def abort(self) -> None:
        """Cut both ends off."""
        self.client.abort()
        self.server.abort()

    def _say_farewell(self) -> None:
        # The server's settings come before all else.
        if not (self._has_greeted and self._answered.is_between):
            return
        if self._farewell:
            farewell, self._farewell = self._farewell, b""
            self.client.write(farewell)
        if self._is_leaving and not self.streams:
            self.client.finish()

    def _from_client(self, data: bytes) -> None:
        before = self._asked.frames
        self.server.write(self._asked.feed(data))
        if (frames := self._asked.frames - before) > MANY_FRAMES:
            self.client.rest(frames * REST_A_FRAME_S)
        if self._limit != ALL_STREAMS:
            self._make_good()
            self._say_farewell()

    def _make_good(self) -> None:
        """What was dropped counts on the connection's window, which calls that go on may need."""
        if self._dropped_bytes and self._answered.is_between:
            self.client.write(window_update(self._dropped_bytes))
            self._dropped_bytes = 0

    def _from_server(self, data: bytes) -> None:
        onward = self._answered.feed(data)
        self.client.write(onward)
        self._has_greeted = self._has_greeted or bool(onward)
        if self._farewell or self._is_leaving:
            # Calls that go on may be waiting for just that.
            self._make_good()
            self._say_farewell()

    def _look_at_asked(self, kind: int, _flags: int, stream: int, length: int) -> bool:
        if stream > self._limit:
            self._dropped_bytes += length if kind == DATA else 0
            return False
        if kind == HEADERS and stream > self._last_stream:
            self._last_stream = stream
            self.streams.add(stream)
            self._on_call()
        elif kind == RST_STREAM:
            self.streams.discard(stream)
        return True

    def _look_at_answered(self, kind: int, flags: int, stream: int, _length: int) -> bool:
        if kind == RST_STREAM or (kind in (DATA, HEADERS) and flags & END_STREAM):
            self.streams.discard(stream)
        self._is_sent_away = self._is_sent_away or kind == GOAWAY
        # After ours, another one could only contradict it.
        return kind != GOAWAY or not self._is_leaving

    def _on_lost(self) -> None:
        if not self.client.is_there:
            self.server.abort()
        if not self.server.is_there:
            self.client.finish()
        if not (self.client.is_there or self.server.is_there):
            self._on_end(self)
