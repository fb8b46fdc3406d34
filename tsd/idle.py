"""When the daemon has nothing to do: it leaves, and systemd starts it again when it is asked."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

# How much longer than the limit it may take to notice, as a part of it.
LOOKS = 20


class IdleWatch:
    """Calls `leave` once nothing has been asked, and nothing has been running, for `limit_s`.

    `asked` counts what has been asked so far; `is_busy`: something is being answered."""

    def __init__(
        self,
        limit_s: float,
        asked: Callable[[], int],
        is_busy: Callable[[], bool],
        leave: Callable[[], None],
    ) -> None:
        self._limit_s = limit_s
        self._asked = asked
        self._is_busy = is_busy
        self._leave = leave
        self._seen = -1
        self._idle_since = 0.0

    def look(self) -> None:
        """Begin to watch, and go on; to be called on the loop."""
        loop = asyncio.get_running_loop()
        now, asked = loop.time(), self._asked()
        if asked != self._seen or self._is_busy():
            self._seen, self._idle_since = asked, now
        if now - self._idle_since >= self._limit_s:
            self._leave()
        else:
            loop.call_later(self._limit_s / LOOKS, self.look)
