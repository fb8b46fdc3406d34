"""Memory that a worker has freed, and that the C library keeps for the next time, given back."""

from __future__ import annotations

import ctypes
import select
import socket

IDLE_S = 10.0
"""After so long without a batch: what is kept makes the next one quicker."""

_libc = ctypes.CDLL(None)


def give_back() -> None:
    """Return to the kernel what is free."""
    _libc.malloc_trim(0)


class IdleMemory:
    """Gives back once, when nothing has come by the channel for a while after a batch."""

    def __init__(self, channel: socket.socket, idle_s: float = IDLE_S) -> None:
        self._poll = select.poll()
        self._poll.register(channel, select.POLLIN)
        self._idle_ms = 1000 * idle_s

    def wait(self) -> None:
        """Return when something has come, or after that while."""
        if not self._poll.poll(self._idle_ms):
            give_back()
