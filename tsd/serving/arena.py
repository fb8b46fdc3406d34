"""An arena: a segment, its free slots, and who waits for room in it.

The request arena of a model and the answer segment of a worker are both arenas; they differ in
who writes. Pages are reserved ahead of use, and given back when nobody has used any for a while;
both on an executor's thread, because it takes longer than the loop may be held."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

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

    def __init__(self, name: str, capacity: int, *, idle_s: float = 0.0, **about: object) -> None:
        """`idle_s`: after so long without use pages are given back; 0: never.
        `about`: whose it is, for the log."""
        self.name = name
        self.idle_s = idle_s
        self._about = about
        self.segment = Segment(name, capacity)
        self.slots = SlotAllocator()
        self._waiters: deque[_Waiter] = deque()
        # The change of the reserved pages that is under way.
        self._change: asyncio.Future[None] | None = None
        self._idle_timer: asyncio.TimerHandle | None = None
        self._was_used = False
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
        self._was_used = True
        slot = None if self._waiters else self.slots.take(size)
        if slot is not None:
            then(slot)
            return
        self._waiters.append(_Waiter(size, deadline, then))
        self._grow()

    def take_now(self, size: int) -> Slot | None:
        """A slot if one is free; None: ask again with `take`, or do without."""
        self._was_used = True
        return self.slots.take(size)

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
        if self._idle_timer is not None:
            self._idle_timer.cancel()
        if self._change is None:
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
        if self._change is not None or limit >= capacity or self._is_closed:
            return
        wanted = limit + max(limit, FIRST_RESERVE_BYTES, size_class(self._waiters[0].size))
        target = min(wanted, capacity)
        self._begin(partial(self.segment.reserve, target), target)

    def _begin(self, change: Callable[[], None], target: int) -> None:
        self._change = asyncio.get_running_loop().run_in_executor(None, change)
        self._change.add_done_callback(lambda change: self._on_changed(change, target))

    def _on_changed(self, change: asyncio.Future[None], target: int) -> None:
        self._change = None
        if self._is_closed:
            change.exception()
            self.segment.close()
            return
        if (error := change.exception()) is not None:
            # What has been reserved so far goes on being used; those who wait have a deadline.
            said = {"errno": getattr(error, "errno", None), "code": "shm_exhausted"}
            log.error("no memory for %s: %s", self.name, error, **self._about, **said)
            return
        self.slots.raise_limit(target)
        self._serve_waiters()
        if self._idle_timer is None and target > FIRST_RESERVE_BYTES:
            self._look_later()

    def _look_later(self) -> None:
        if self.idle_s:
            loop = asyncio.get_running_loop()
            self._was_used = False
            self._idle_timer = loop.call_later(self.idle_s, self._shrink_if_idle)

    def _shrink_if_idle(self) -> None:
        """One timer, while there is something to give back: a use only leaves a mark."""
        self._idle_timer = None
        if self._was_used or self.slots.used_bytes or self._change is not None:
            self._look_later()
            return
        self.slots = SlotAllocator()
        self._begin(self.segment.release, 0)
