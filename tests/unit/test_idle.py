"""Idleness: what ends it, and that it is noticed."""

from __future__ import annotations

import asyncio
import selectors
from dataclasses import dataclass, field

from tsd.idle import LOOKS, IdleWatch


@dataclass
class Daemon:
    """What is asked of it, and whether it has left."""

    asked: int = 0
    is_busy: bool = False
    left: list[float] = field(default_factory=list)


class Waiting(selectors.SelectSelector):
    """Time passes as soon as everybody waits for it."""

    now = 1_000.0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        self.now += timeout or 0.0
        return super().select(0)


class Loop(asyncio.SelectorEventLoop):
    """A loop on which no time is lost."""

    def __init__(self) -> None:
        self._waiting = Waiting()
        super().__init__(self._waiting)

    def time(self) -> float:
        return self._waiting.now


def watched(daemon: Daemon, limit_s: float, changes: dict[float, tuple[int, bool]]) -> float:
    """How long it stays, when at those times so much has been asked and something runs, or not."""

    async def main() -> float:
        loop, over = asyncio.get_running_loop(), asyncio.Event()
        begun_at = loop.time()

        def leave() -> None:
            daemon.left.append(loop.time())
            over.set()

        def change(asked: int, is_busy: bool) -> None:  # noqa: FBT001
            daemon.asked, daemon.is_busy = asked, is_busy

        for delay_s, (asked, is_busy) in changes.items():
            loop.call_later(delay_s, change, asked, is_busy)
        IdleWatch(limit_s, lambda: daemon.asked, lambda: daemon.is_busy, leave).look()
        await over.wait()
        return daemon.left[0] - begun_at

    with asyncio.Runner(loop_factory=Loop) as runner:
        return runner.run(main())


def test_a_daemon_that_is_asked_nothing_leaves() -> None:
    stayed_s = watched(Daemon(asked=7), 100.0, {})
    assert 100.0 <= stayed_s <= 100.0 * (1 + 2 / LOOKS)


def test_a_request_begins_the_time_anew() -> None:
    stayed_s = watched(Daemon(), 100.0, {60.0: (1, False), 130.0: (2, False)})
    assert 230.0 <= stayed_s <= 245.0


def test_what_runs_keeps_the_daemon() -> None:
    stayed_s = watched(Daemon(), 100.0, {10.0: (1, True), 500.0: (1, False)})
    assert 595.0 <= stayed_s <= 615.0
