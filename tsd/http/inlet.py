"""How a transport reads for its connection: at once, not now, or straight into a room."""

from __future__ import annotations

import asyncio
from typing import Protocol

from tsd.http.body import SizedBody


class Owner(Protocol):
    """The connection, as far as this file knows it."""

    def end_direct(self) -> None: ...
    def eof_received(self) -> bool: ...
    def connection_lost(self, exc: Exception | None) -> None: ...
    def pause_writing(self) -> None: ...
    def resume_writing(self) -> None: ...


class DirectReader(asyncio.BufferedProtocol):
    """Takes the connection's place while the transport reads straight into a room."""

    __slots__ = ("_body", "_owner")

    def __init__(self, owner: Owner, body: SizedBody) -> None:
        self._owner = owner
        self._body = body

    def get_buffer(self, sizehint: int) -> memoryview:
        """Where the transport reads to."""
        return self._body.free_room()

    def buffer_updated(self, nbytes: int) -> None:
        """The transport has read."""
        self._body.advance(nbytes)
        if self._body.is_complete:
            self._owner.end_direct()

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


class Inlet:
    """The reading side of one transport."""

    __slots__ = ("_owner", "_transport", "is_direct", "is_paused")

    def __init__(self, owner: asyncio.Protocol, transport: asyncio.Transport) -> None:
        self._owner = owner
        self._transport = transport
        self.is_paused = False
        self.is_direct = False

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

    def go_direct(self, reader: DirectReader) -> None:
        """What comes next goes straight into a room."""
        self.is_direct = True
        self._switch(reader)

    def leave_direct(self) -> None:
        """What comes next goes to the connection again."""
        if self.is_direct:
            self.is_direct = False
            self._switch(self._owner)

    def _switch(self, protocol: asyncio.BaseProtocol) -> None:
        # The transport looks at its protocol only when it starts to read.
        self.pause()
        self._transport.set_protocol(protocol)
        self.resume()
