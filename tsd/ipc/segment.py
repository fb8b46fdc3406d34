"""Shared memory: segments, and the slots that the daemon hands out in them.

A segment is a `memfd` sealed against any other size, whose pages are reserved (`posix_fallocate`)
before anyone touches them, so that a full machine shows as an error and never as SIGBUS. Slots are
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

SEALS = fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW


@dataclass(frozen=True, slots=True)
class Slot:
    """Bytes [offset, offset + size) of a segment."""

    offset: int
    size: int


class Segment:
    """A memfd of `capacity` bytes. `fd` is what the other side gets, to map it and close it."""

    def __init__(self, name: str, capacity: int) -> None:
        self.capacity = capacity
        self._mappings: list[tuple[memoryview, mmap.mmap]] = []
        self._own_fd = os.memfd_create(name, os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
        self.fd = self._own_fd
        os.ftruncate(self._own_fd, capacity)
        fcntl.fcntl(self._own_fd, fcntl.F_ADD_SEALS, SEALS)

    def map_to_write(self) -> memoryview:
        """A writable mapping, for this side alone: who gets the descriptor later can only read."""
        # Not by a seal against writing, which would forbid to punch holes, too.
        self.fd = os.open(f"/proc/self/fd/{self._own_fd}", os.O_RDONLY | os.O_CLOEXEC)
        return self._map(mmap.PROT_READ | mmap.PROT_WRITE)

    def map_to_read(self) -> memoryview:
        """A read-only mapping, for the side that does not write here."""
        return self._map(mmap.PROT_READ)

    def reserve(self, size: int) -> None:
        """Put pages behind the first `size` bytes; OSError when the machine has none left.

        May take milliseconds: the daemon calls it on an executor's thread."""
        os.posix_fallocate(self._own_fd, 0, min(size, self.capacity))

    def release(self) -> None:
        """Give all pages back; nobody may be reading or writing. Takes as long as `reserve`."""
        with mmap.mmap(self._own_fd, self.capacity) as whole:
            whole.madvise(mmap.MADV_REMOVE)

    def close(self) -> None:
        """Close the descriptor and this process's mappings.

        A mapping of which somebody still holds a piece (an answer on its way out) goes with it."""
        for descriptor in {self._own_fd, self.fd}:
            os.close(descriptor)
        for view, mapping in self._mappings:
            view.release()
            with contextlib.suppress(BufferError):
                mapping.close()
        self._mappings.clear()

    def _map(self, protection: int) -> memoryview:
        mapping = mmap.mmap(self._own_fd, self.capacity, prot=protection)
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
