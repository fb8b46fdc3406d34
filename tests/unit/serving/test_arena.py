"""Room in shared memory: found, waited for, refused."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable

from tsd.ipc.segment import Slot
from tsd.serving.arena import FIRST_RESERVE_BYTES, Arena

CAPACITY = 4 << 20


def with_arena(scenario: Callable[[Arena], Awaitable[None]], idle_s: float = 0.0) -> None:
    async def run() -> None:
        arena = Arena("test", CAPACITY, idle_s=idle_s)
        try:
            await scenario(arena)
        finally:
            arena.close()

    asyncio.run(run())


class Asked:
    """One `take`, and what came of it."""

    def __init__(self, arena: Arena, size: int, deadline: float = 1e12) -> None:
        self.outcomes: list[Slot | None] = []
        self._has_come = asyncio.Event()
        arena.take(size, deadline, self._come)

    async def slot(self) -> Slot | None:
        await self._has_come.wait()
        return self.outcomes[0]

    def _come(self, slot: Slot | None) -> None:
        self.outcomes.append(slot)
        self._has_come.set()


def test_memory_is_reserved_before_the_first_slot_is_given() -> None:
    async def scenario(arena: Arena) -> None:
        first = Asked(arena, 10_000)
        assert first.outcomes == []
        assert await first.slot() is not None
        assert arena.slots.limit == FIRST_RESERVE_BYTES
        assert Asked(arena, 10_000).outcomes != []

    with_arena(scenario)


def test_what_never_fits_is_refused_at_once() -> None:
    async def scenario(arena: Arena) -> None:
        assert Asked(arena, CAPACITY + 1).outcomes == [None]

    with_arena(scenario)


def test_who_finds_it_full_waits_in_order_for_a_slot_to_come_back() -> None:
    async def scenario(arena: Arena) -> None:
        whole = await Asked(arena, CAPACITY).slot()
        assert whole is not None
        large, small = Asked(arena, CAPACITY), Asked(arena, 10)
        assert arena.has_waiters
        assert large.outcomes + small.outcomes == []
        arena.give_back(whole)
        again = await large.slot()
        assert again == whole
        assert small.outcomes == []
        arena.give_back(again)
        assert await small.slot() is not None

    with_arena(scenario)


def test_a_thousand_that_give_their_slot_back_at_once_cost_no_depth() -> None:
    async def scenario(arena: Arena) -> None:
        whole = await Asked(arena, CAPACITY).slot()
        assert whole is not None
        served: list[Slot] = []

        def give_back(slot: Slot | None) -> None:
            assert slot is not None
            served.append(slot)
            arena.give_back(slot)

        for _ in range(5_000):
            arena.take(CAPACITY, 1e12, give_back)
        arena.give_back(whole)
        assert len(served) == 5_000

    with_arena(scenario)


def test_who_waits_past_the_deadline_gets_none() -> None:
    async def scenario(arena: Arena) -> None:
        await Asked(arena, CAPACITY).slot()
        late, patient = Asked(arena, 10, deadline=5.0), Asked(arena, 10, deadline=50.0)
        arena.sweep(6.0)
        assert late.outcomes == [None]
        assert patient.outcomes == []

    with_arena(scenario)


def test_a_closed_arena_gives_nothing_to_anybody() -> None:
    async def scenario(arena: Arena) -> None:
        growing = Asked(arena, 10)
        arena.close()
        assert growing.outcomes == [None]
        assert Asked(arena, 10).outcomes == [None]
        arena.close()

    with_arena(scenario)


async def grown(arena: Arena) -> None:
    """Has had a large slot."""
    slot = await Asked(arena, 2 << 20).slot()
    assert slot is not None
    arena.give_back(slot)


async def shrunk(arena: Arena) -> None:
    """Has begun to give its memory back."""
    async with asyncio.timeout(10):
        while arena.slots.limit:
            await timers(0.001)


async def timers(seconds: float) -> None:
    """Those that are due until then have been called."""
    loop = asyncio.get_running_loop()
    over = loop.create_future()
    loop.call_later(seconds, over.set_result, None)
    await over


def reserved_bytes(arena: Arena) -> int:
    return os.fstat(arena.segment.fd).st_blocks * 512


def test_memory_that_nobody_uses_is_given_back_and_comes_again() -> None:
    async def scenario(arena: Arena) -> None:
        view = arena.segment.map_to_write()
        seen = arena.segment.map_to_read()
        for _time in range(2):
            await grown(arena)
            view[5] = 7
            assert (seen[5], reserved_bytes(arena)) == (7, arena.slots.limit)
            await shrunk(arena)
            # Asked for while it is given back.
            slot = await Asked(arena, 100).slot()
            assert slot is not None
            assert (seen[5], reserved_bytes(arena)) == (0, FIRST_RESERVE_BYTES)
            arena.give_back(slot)

    with_arena(scenario, idle_s=0.01)


def test_memory_that_is_used_stays() -> None:
    async def scenario(arena: Arena) -> None:
        await grown(arena)
        held = arena.take_now(100)
        assert held is not None
        await timers(0.05)
        assert reserved_bytes(arena) == arena.slots.limit > 0
        arena.give_back(held)
        await shrunk(arena)

    with_arena(scenario, idle_s=0.01)


def test_memory_stays_where_nobody_asks_for_it_back() -> None:
    async def scenario(arena: Arena) -> None:
        await grown(arena)
        await timers(0.03)
        assert reserved_bytes(arena) == arena.slots.limit > 0

    with_arena(scenario)


def test_an_arena_may_close_while_its_memory_is_given_back() -> None:
    async def scenario(arena: Arena) -> None:
        await grown(arena)
        await shrunk(arena)
        arena.close()

    with_arena(scenario, idle_s=0.01)
