"""Room in shared memory: found, waited for, refused."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from tsd.ipc.segment import Slot
from tsd.serving.arena import FIRST_RESERVE_BYTES, Arena

CAPACITY = 4 << 20


def with_arena(scenario: Callable[[Arena], Awaitable[None]]) -> None:
    async def run() -> None:
        arena = Arena("test", CAPACITY)
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
