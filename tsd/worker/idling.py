"""What a worker does while nothing comes: it tells what was measured, and later gives memory back
that it has freed, and that the C library keeps for the next time."""

from __future__ import annotations

import ctypes
from collections.abc import Callable

from tsd.worker.outbox import METRICS_S, MetricsSender, Outbox

IDLE_S = 10.0
"""After so long without a notice memory goes back: until then it makes the next batch quicker."""

_libc = ctypes.CDLL(None)


def give_back() -> None:
    """Return to the kernel what is free."""
    _libc.malloc_trim(0)


class Idling:
    """Waits for notices, and uses the time when none comes for a while."""

    def __init__(
        self,
        outbox: Outbox,
        metrics: MetricsSender,
        idle_s: float = IDLE_S,
        release: Callable[[], None] = give_back,
    ) -> None:
        self._outbox = outbox
        self._metrics = metrics
        self._idle_s = idle_s
        self._release = release
        # Since the last notice nothing was given back.
        self._is_owing = True

    def next_notice(self) -> bytes:
        """The next notice; empty when the daemon has gone."""
        self._metrics.send_if_due()
        while True:
            notice = self._outbox.receive(self._patience_s())
            if notice is not None:
                self._is_owing = True
                return notice
            self._use_time()

    def _patience_s(self) -> float | None:
        """How long to wait before there is something else to do; None: there is nothing."""
        if self._metrics.has_pending:
            return METRICS_S
        return self._idle_s if self._is_owing else None

    def _use_time(self) -> None:
        if self._metrics.has_pending:
            self._metrics.send()
        else:
            self._is_owing = False
            self._release()
