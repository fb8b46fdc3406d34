"""When a client is too slow, or silent for too long. The connection acts on it."""

from __future__ import annotations

from tsd.http.body import Body
from tsd.settings import HttpSettings

# After the last answer, input is dropped for so long: closing at once could destroy that answer.
LINGER_S = 2.0
# A client that has just come, or was just answered, may be about to ask: for so long, when the
# server stops, that is waited for.
LAST_WORD_S = 0.3


class Pace:
    """The instants that matter in one connection's life."""

    __slots__ = ("_limits", "idle_since", "is_fresh", "lingers_until", "rests_until")

    def __init__(self, limits: HttpSettings, now: float) -> None:
        self._limits = limits
        # When the connection was first seen idle; None since the last byte.
        self.idle_since: float | None = now
        # Nothing has come yet.
        self.is_fresh = True
        self.lingers_until: float | None = None
        # Nothing can be late before that, unless something comes.
        self.rests_until = 0.0

    def linger(self, now: float, seconds: float = LINGER_S) -> None:
        """The last answer has been written; the client may not have seen it yet."""
        self.lingers_until = now + seconds
        self.rests_until = 0.0

    def has_lingered(self, now: float) -> bool:
        """Whether the client has had its time to see the last answer."""
        return self.lingers_until is not None and now >= self.lingers_until

    def is_head_slow(self, since: float, now: float) -> bool:
        """Whether a head that has begun should be complete by now."""
        return now - since > self._limits.header_timeout_s

    def is_body_slow(self, body: Body, now: float) -> bool:
        """Whether less of the body has come than the rate asks for."""
        late_s = now - body.since - self._limits.body_grace_s
        return late_s > 0 and body.received < late_s * self._limits.body_bytes_per_s

    def has_idled(self, now: float) -> bool:
        """Whether an idle connection has been so for too long."""
        if self.idle_since is None:
            self.is_fresh = False
            self.idle_since = now
            self.rests_until = 0.0
        return now - self.idle_since > self._idle_limit_s

    def rest(self) -> None:
        """Nothing has begun, nothing is on its way: the next instant that matters is far off."""
        if self.idle_since is not None:
            self.rests_until = self.idle_since + self._idle_limit_s

    def is_resting(self, now: float) -> bool:
        """Whether nothing has come since `rest`, and its instant has not."""
        return self.idle_since is not None and now < self.rests_until

    @property
    def _idle_limit_s(self) -> float:
        return self._limits.header_timeout_s if self.is_fresh else self._limits.keep_alive_s
