"""What systemd hears at regular times."""

from __future__ import annotations

import asyncio

from tsd.heartbeat import Heartbeat
from tsd.systemd import Notifier


def told(*, watchdog_s: float | None, needs_time: bool) -> list[str]:
    """What is said in the first turns of the loop."""
    sent: list[str] = []

    async def main() -> None:
        Heartbeat(Notifier(sent.append), watchdog_s, lambda: needs_time).start()
        for _turn in range(3):
            await asyncio.sleep(0)

    asyncio.run(main())
    return sorted(set(sent))


def test_the_watchdog_is_fed_where_there_is_one() -> None:
    assert told(watchdog_s=None, needs_time=False) == []
    assert told(watchdog_s=0.0, needs_time=False) == ["WATCHDOG=1"]


def test_time_is_asked_for_while_it_is_needed() -> None:
    assert told(watchdog_s=None, needs_time=True) == ["EXTEND_TIMEOUT_USEC=30000000"]
