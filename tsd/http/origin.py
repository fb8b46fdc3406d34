"""Who is at the other end of a connection."""

from __future__ import annotations

import asyncio
import socket
import struct
from dataclasses import dataclass
from typing import NamedTuple

CREDENTIALS = struct.Struct("3i")


class PeerCredentials(NamedTuple):
    """The process at the other end of a Unix socket, as the kernel knows it."""

    pid: int
    uid: int
    gid: int


@dataclass(frozen=True, slots=True)
class Origin:
    """Where requests come from: one for all requests of a connection."""

    door: str
    # For logs: `ADDRESS:PORT` or `unix`.
    remote: str
    peer: PeerCredentials | None = None


def origin_of(transport: asyncio.Transport, door: str) -> Origin:
    """Ask the transport, and for Unix sockets the kernel."""
    sock = transport.get_extra_info("socket")
    if sock is not None and sock.family == socket.AF_UNIX:
        raw = sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, CREDENTIALS.size)
        return Origin(door, "unix", PeerCredentials(*CREDENTIALS.unpack(raw)))
    address = transport.get_extra_info("peername")
    return Origin(door, f"{address[0]}:{address[1]}" if address else "unknown")
