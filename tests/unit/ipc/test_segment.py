"""Slots never overlap, are reused, and melt together when nothing else fits."""

import fcntl
import mmap
import os
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tsd.ipc.segment import MIN_SLOT_BYTES, SEALS, Segment, Slot, SlotAllocator, size_class

LIMIT = 1 << 20


@given(st.integers(1, 1 << 32))
def test_a_class_wastes_at_most_a_fifth(size: int) -> None:
    rounded = size_class(size)
    assert size <= rounded
    assert rounded == MIN_SLOT_BYTES or rounded < size * 1.25


@given(st.lists(st.one_of(st.integers(1, 300_000), st.integers(-50, -1)), max_size=80))
def test_slots_in_use_never_overlap_and_stay_inside(steps: list[int]) -> None:
    allocator, used = SlotAllocator(LIMIT), list[Slot]()
    for step in steps:
        if step > 0:
            slot = allocator.take(step)
            if slot is not None:
                assert slot.size >= step
                used.append(slot)
        elif used:
            allocator.give_back(used.pop(step % len(used)))
        ranges = sorted((slot.offset, slot.offset + slot.size) for slot in used)
        assert all(0 <= begin < end <= LIMIT for begin, end in ranges)
        assert all(a[1] <= b[0] for a, b in pairwise(ranges))
        assert allocator.used_bytes == sum(slot.size for slot in used)
    for slot in used:
        allocator.give_back(slot)
    assert allocator.take(LIMIT) == Slot(0, LIMIT)


def test_the_slot_freed_last_is_taken_first() -> None:
    allocator = SlotAllocator(LIMIT)
    first, second = allocator.take(5_000), allocator.take(5_000)
    assert first is not None
    assert second is not None
    allocator.give_back(second)
    allocator.give_back(first)
    assert allocator.take(5_000) == first


def test_a_raised_limit_makes_room() -> None:
    allocator = SlotAllocator(MIN_SLOT_BYTES)
    assert allocator.take(10_000) is None
    allocator.raise_limit(65_536)
    assert allocator.take(10_000) is not None
    allocator.raise_limit(1)
    assert allocator.limit == 65_536


def test_what_one_side_writes_the_other_reads_and_cannot_change() -> None:
    segment = Segment("test", 1 << 20)
    writable = segment.map_to_write()
    segment.reserve(1 << 16)
    readable = segment.map_to_read()
    writable[100:105] = b"hello"
    assert bytes(readable[100:105]) == b"hello"
    assert readable.readonly
    with pytest.raises(PermissionError):
        mmap.mmap(segment.fd, 1 << 20)
    with pytest.raises(OSError, match="Invalid argument"):
        os.ftruncate(segment.fd, 0)
    assert fcntl.fcntl(segment.fd, fcntl.F_GET_SEALS) == SEALS
    segment.release()
    assert os.fstat(segment.fd).st_blocks == 0
    assert bytes(readable[100:105]) == bytes(5)
    segment.close()
