"""Shared memory: segments, and the slots that the daemon hands out in them.

A segment is a sealed `memfd` of fixed size whose pages are reserved (`posix_fallocate`) before
anyone touches them, so that a full machine shows as an error and never as SIGBUS. Slots are
kept in the daemon's private memory: shared memory holds payloads and nothing else.
What stands in a slot is said in layout.py."""

from __future__ import annotations

import contextlib
import fcntl
import mmap
import os
from bisect import insort
from dataclasses import dataclass

MIN_SLOT_BYTES = 4_096

# linux/fcntl.h; Python 3.11 does not name the last one
F_ADD_SEALS = 1033
SEAL_SHRINK, SEAL_GROW, SEAL_FUTURE_WRITE = 0x2, 0x4, 0x10


@dataclass(frozen=True, slots=True)
class Slot:
    """Bytes [offset, offset + size) of a segment."""

    offset: int
    size: int


class Segment:
    """A memfd of `capacity` bytes, sealed against any other size."""

    def __init__(self, name: str, capacity: int) -> None:
        self.capacity = capacity
        self._mappings: list[tuple[memoryview, mmap.mmap]] = []
        self.fd = os.memfd_create(name, os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
        os.ftruncate(self.fd, capacity)
        fcntl.fcntl(self.fd, F_ADD_SEALS, SEAL_SHRINK | SEAL_GROW)

    def map_to_write(self) -> memoryview:
        """The last writable mapping there can be: who gets the descriptor later can only read."""
        view = self._map(mmap.PROT_READ | mmap.PROT_WRITE)
        fcntl.fcntl(self.fd, F_ADD_SEALS, SEAL_FUTURE_WRITE)
        return view

    def map_to_read(self) -> memoryview:
        """A read-only mapping, for the side that does not write here."""
        return self._map(mmap.PROT_READ)

    def reserve(self, size: int) -> None:
        """Put pages behind the first `size` bytes; OSError when the machine has none left.

        May take milliseconds: the daemon calls it on an executor's thread."""
        os.posix_fallocate(self.fd, 0, min(size, self.capacity))

    def close(self) -> None:
        """Close the descriptor and this process's mappings.

        A mapping of which somebody still holds a piece (an answer on its way out) goes with it."""
        os.close(self.fd)
        for view, mapping in self._mappings:
            view.release()
            with contextlib.suppress(BufferError):
                mapping.close()
        self._mappings.clear()

    def _map(self, protection: int) -> memoryview:
        mapping = mmap.mmap(self.fd, self.capacity, prot=protection)
        view = memoryview(mapping)
        self._mappings.append((view, mapping))
        return view


def size_class(size: int) -> int:
    """`size` rounded up to a class: four steps a doubling, so that at most a fifth is wasted."""
    if size <= MIN_SLOT_BYTES:
        return MIN_SLOT_BYTES
    step = 1 << max((size - 1).bit_length() - 3, 10)
    return -(-size // step) * step


class SlotAllocator:
    """Which bytes below `limit` are free. Freed slots are reused last in, first out.

    The most recently used memory is the warmest in the caches; slots of one class keep their size,
    and are melted together only when nothing else fits."""

    def __init__(self, limit: int = 0) -> None:
        self.limit = 0
        self.used_bytes = 0
        self._freed: dict[int, list[int]] = {}
        self._extents: list[tuple[int, int]] = []
        self.raise_limit(limit)

    def raise_limit(self, limit: int) -> None:
        """More bytes have pages behind them now."""
        if limit > self.limit:
            self._add_extent(self.limit, limit - self.limit)
            self.limit = limit

    def take(self, size: int) -> Slot | None:
        """A free slot of at least `size` bytes, or None."""
        rounded = size_class(size)
        freed = self._freed.get(rounded)
        if freed:
            offset: int | None = freed.pop()
        else:
            offset = self._carve(rounded)
            if offset is None and self._freed:
                self._melt()
                offset = self._carve(rounded)
        if offset is None:
            return None
        self.used_bytes += rounded
        return Slot(offset, rounded)

    def give_back(self, slot: Slot) -> None:
        """The slot is free again: nobody reads or writes it any more."""
        self.used_bytes -= slot.size
        self._freed.setdefault(slot.size, []).append(slot.offset)

    def _carve(self, size: int) -> int | None:
        for index, (offset, available) in enumerate(self._extents):
            if available >= size:
                self._extents[index] = (offset + size, available - size)
                if available == size:
                    del self._extents[index]
                return offset
        return None

    def _melt(self) -> None:
        for size, offsets in self._freed.items():
            for offset in offsets:
                insort(self._extents, (offset, size))
        self._freed.clear()
        extents, self._extents = self._extents, []
        for offset, size in extents:
            self._add_extent(offset, size)

    def _add_extent(self, offset: int, size: int) -> None:
        if self._extents and sum(self._extents[-1]) == offset:
            offset, size = self._extents[-1][0], self._extents[-1][1] + size
            self._extents.pop()
        self._extents.append((offset, size))
