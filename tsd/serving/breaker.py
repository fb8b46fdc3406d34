"""When the dead workers of a model are replaced, and when the model counts as failed.

Plain decisions on a clock that the caller reads; pool.py acts on them. A death counts until a
worker of the model has answered a batch: under load kills from outside do not add up."""

from __future__ import annotations

from collections import deque

MAX_DEATHS = 5
DEATHS_WINDOW_S = 60.0
MAX_FAILED_STARTS = 3
MAX_BACKOFF_S = 60.0
FAILED_START_S = 0.5
JITTER = 0.2


class Breaker:
    """Open: the model is failed, and one trial start is made per step of the back-off."""

    def __init__(self) -> None:
        self.is_open = False
        self._deaths: deque[float] = deque(maxlen=MAX_DEATHS)
        self._failed_starts = 0
        self._trials = 0

    def died(self, now: float, *, was_ready: bool) -> None:
        """A worker is gone that nobody had told to go."""
        if not was_ready:
            self._failed_starts += 1
        self._deaths.append(now)
        in_a_row = len(self._deaths) == MAX_DEATHS and now - self._deaths[0] <= DEATHS_WINDOW_S
        if in_a_row or self._failed_starts >= MAX_FAILED_STARTS:
            self.is_open = True

    def give_up(self) -> None:
        """It is known that no start can succeed at present."""
        self.is_open = True

    def started(self) -> None:
        """A worker got ready: requests may come again, the deaths still count."""
        self._failed_starts = 0
        self.is_open = False

    def answered(self) -> None:
        """A worker has given a batch back: all is well."""
        self._deaths.clear()
        self._trials = 0

    def delay_s(self, noise: float) -> float:
        """How long to wait before the next start; `noise` in [-1, 1] spreads the trials."""
        if self.is_open:
            step = min(2.0**self._trials, MAX_BACKOFF_S)
            self._trials += 1
            return step * (1 + JITTER * noise)
        if self._failed_starts:
            return FAILED_START_S * 2.0 ** (self._failed_starts - 1)
        # The first one is replaced at once: what killed it may well have been somebody outside.
        return 0.0 if len(self._deaths) <= 1 else 0.1 * 2.0 ** (len(self._deaths) - 2)
