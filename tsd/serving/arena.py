"""An arena: a segment, its free slots, and who waits for room in it.

The request arena of a model and the answer segment of a worker are both arenas; they differ in
who writes. Pages are reserved ahead of use on an executor's thread, because reserving many takes
longer than the loop may be held."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

from tsd.ipc.segment import Segment, Slot, SlotAllocator, size_class
from tsd.log import get_logger

FIRST_RESERVE_BYTES = 1 << 20

log = get_logger()


@dataclass(slots=True)
class _Waiter:
    size: int
    deadline: float
    then: Callable[[Slot | None], None]


class Arena:
    """Slots in one segment. `then` callbacks get a slot, or None: no room until the deadline."""

    def __init__(self, name: str, capacity: int, **about: object) -> None:
        """`about`: whose it is, for the log."""
        self.name = name
        self._about = about
        self.segment = Segment(name, capacity)
        self.slots = SlotAllocator()
        self._waiters: deque[_Waiter] = deque()
        self._growth: asyncio.Future[None] | None = None
        self._is_serving = False
        self._is_closed = False

    @property
    def has_waiters(self) -> bool:
        """Whether anybody waits for room."""
        return bool(self._waiters)

    def take(self, size: int, deadline: float, then: Callable[[Slot | None], None]) -> None:
        """Call `then` with a slot of `size` bytes: at once where there is one, else when it is."""
        if self._is_closed or size_class(size) > self.segment.capacity:
            then(None)
            return
        slot = None if self._waiters else self.slots.take(size)
        if slot is not None:
            then(slot)
            return
        self._waiters.append(_Waiter(size, deadline, then))
        self._grow()

    def give_back(self, slot: Slot) -> None:
        """The slot is free again; whoever waits may have it."""
        self.slots.give_back(slot)
        # Whoever gets a slot may give it back at once: the loop below goes on, not a deeper one.
        if self._waiters and not self._is_serving:
            self._serve_waiters()

    def sweep(self, now: float) -> None:
        """Tell those whose deadline has passed that there was no room."""
        late = [waiter for waiter in self._waiters if waiter.deadline <= now]
        for waiter in late:
            self._waiters.remove(waiter)
            waiter.then(None)

    def close(self) -> None:
        """Give the memory back; nobody gets a slot any more."""
        if self._is_closed:
            return
        self._is_closed = True
        self.sweep(float("inf"))
        if self._growth is None:
            self.segment.close()

    def _serve_waiters(self) -> None:
        self._is_serving = True
        try:
            while self._waiters and (slot := self.slots.take(self._waiters[0].size)):
                self._waiters.popleft().then(slot)
        finally:
            self._is_serving = False
        if self._waiters:
            self._grow()

    def _grow(self) -> None:
        """Reserve twice as much as now, or what the first waiter needs; up to the capacity."""
        limit, capacity = self.slots.limit, self.segment.capacity
        if self._growth is not None or limit >= capacity or self._is_closed:
            return
        wanted = limit + max(limit, FIRST_RESERVE_BYTES, size_class(self._waiters[0].size))
        target = min(wanted, capacity)
        loop = asyncio.get_running_loop()
        self._growth = loop.run_in_executor(None, self.segment.reserve, target)
        self._growth.add_done_callback(lambda growth: self._on_grown(growth, target))

    def _on_grown(self, growth: asyncio.Future[None], target: int) -> None:
        self._growth = None
        if self._is_closed:
            growth.exception()
            self.segment.close()
            return
        if (error := growth.exception()) is not None:
            # What has been reserved so far goes on being used; those who wait have a deadline.
            said = {"errno": getattr(error, "errno", None), "code": "shm_exhausted"}
            log.error("no memory for %s: %s", self.name, error, **self._about, **said)
            return
        self.slots.raise_limit(target)
        self._serve_waiters()
