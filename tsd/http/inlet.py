"""How a transport reads for its connection: at once, not now, or straight into a room."""

from __future__ import annotations

import asyncio
from typing import Protocol, cast

from tsd.http.body import SizedBody

# Behind a large body only so much is read: what follows may be the head of another one, whose
# body is to go straight into its room.
HEAD_BYTES = 8 * 1024
# One for all connections: what is in it has been used before anything else is read.
HEAD_ROOM = memoryview(bytearray(HEAD_BYTES))


class Owner(Protocol):
    """The connection, as far as this file knows it."""

    def data_received(self, data: bytes) -> None: ...
    def end_direct(self) -> None: ...
    def eof_received(self) -> bool: ...
    def connection_lost(self, exc: Exception | None) -> None: ...
    def pause_writing(self) -> None: ...
    def resume_writing(self) -> None: ...


class Inlet(asyncio.BufferedProtocol):
    """The reading side of one transport; takes the connection's place there for large bodies.

    It keeps that place between them, so that a client that sends one after the other pays for
    the change once, and gives it back when something small comes."""

    __slots__ = ("_body", "_has_place", "_owner", "_transport", "is_paused")

    def __init__(self, owner: Owner, transport: asyncio.Transport) -> None:
        self._owner = owner
        self._transport = transport
        # What is being read straight into its room.
        self._body: SizedBody | None = None
        self._has_place = False
        self.is_paused = False

    # From the connection.

    @property
    def is_direct(self) -> bool:
        """Whether a body is being read straight into its room."""
        return self._body is not None

    def pause(self) -> None:
        """Let what comes wait in the kernel."""
        if not self.is_paused:
            self.is_paused = True
            self._transport.pause_reading()

    def resume(self) -> None:
        """Read on."""
        if self.is_paused:
            self.is_paused = False
            self._transport.resume_reading()

    def go_direct(self, body: SizedBody) -> None:
        """What comes next goes straight into the body's room."""
        self._body = body
        if not self._has_place:
            self._has_place = True
            self._give_place(self)

    def end_direct(self) -> None:
        """The body is complete."""
        self._body = None

    def leave_direct(self) -> None:
        """What comes next goes to the connection again."""
        self._body = None
        if self._has_place:
            self._has_place = False
            self._give_place(cast(asyncio.BaseProtocol, self._owner))

    def close(self) -> None:
        """The client has gone; nobody is held on to."""
        self._body, self._has_place = None, False
        del self._owner

    # From the transport, while this has the connection's place.

    def get_buffer(self, sizehint: int) -> memoryview:
        """Where the transport reads to."""
        return HEAD_ROOM if self._body is None else self._body.free_room()

    def buffer_updated(self, nbytes: int) -> None:
        """The transport has read."""
        body = self._body
        if body is not None:
            body.advance(nbytes)
            if body.is_complete:
                self._owner.end_direct()
            return
        self._owner.data_received(bytes(HEAD_ROOM[:nbytes]))
        # While reading is paused it is not known yet how the body is read.
        if not (self.is_direct or self.is_paused):
            self.leave_direct()

    def eof_received(self) -> bool:
        """Passed on."""
        return self._owner.eof_received()

    def connection_lost(self, exc: Exception | None) -> None:
        """Passed on."""
        self._owner.connection_lost(exc)

    def pause_writing(self) -> None:
        """Passed on."""
        self._owner.pause_writing()

    def resume_writing(self) -> None:
        """Passed on."""
        self._owner.resume_writing()

    def _give_place(self, protocol: asyncio.BaseProtocol) -> None:
        # The transport looks at its protocol only when it starts to read.
        if self._transport.is_closing():
            return
        was_paused = self.is_paused
        self.pause()
        self._transport.set_protocol(protocol)
        if not was_paused:
            self.resume()
