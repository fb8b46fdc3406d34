"""What systemd hears from the daemon at regular times: that its loop turns, and that it needs time.

Sent from the loop: when that is stuck, systemd hears nothing, and starts the daemon anew."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from tsd.systemd import Notifier

EXTEND_S = 30.0


class Heartbeat:
    """From `start` on. `needs_time`: whether the daemon is starting, or stopping."""

    def __init__(
        self, notifier: Notifier, watchdog_s: float | None, needs_time: Callable[[], bool]
    ) -> None:
        self._notifier = notifier
        self._watchdog_s = watchdog_s
        self._needs_time = needs_time

    def start(self) -> None:
        """Begin, and go on."""
        self._feed_watchdog()
        self._ask_for_time()

    def _feed_watchdog(self) -> None:
        if self._watchdog_s is not None:
            self._notifier.watchdog()
            asyncio.get_running_loop().call_later(self._watchdog_s, self._feed_watchdog)

    def _ask_for_time(self) -> None:
        """Models may load, and requests end, for longer than systemd would wait by itself."""
        if self._needs_time():
            self._notifier.extend_timeout(EXTEND_S)
        asyncio.get_running_loop().call_later(EXTEND_S / 3, self._ask_for_time)
