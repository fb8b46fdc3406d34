"""Which processors there are, and which of them a worker gets."""

from __future__ import annotations

import os
from itertools import chain
from pathlib import Path

import pytest

from tsd.processors import find_nodes, share_of, threads_for

TWO_NODES = ((0, 1, 2, 3, 8), (4, 5, 6, 7))


def made_up(root: Path, *lists: str) -> Path:
    """A sysfs with these nodes."""
    for number, text in enumerate(lists):
        folder = root / f"node{number}"
        folder.mkdir()
        (folder / "cpulist").write_text(text + "\n")
    (root / "has_cpu").touch()
    return root


def test_each_node_has_the_processors_that_the_kernel_lists(tmp_path: Path) -> None:
    root = made_up(tmp_path, "0-3,8", "4-7")
    assert find_nodes(range(9), root) == TWO_NODES


def test_only_those_that_may_be_used_count_and_nodes_without_any_are_left_out(
    tmp_path: Path,
) -> None:
    root = made_up(tmp_path, "0-3", "4-7", "")
    assert find_nodes({1, 3}, root) == ((1, 3),)


def test_nodes_are_in_the_order_of_their_numbers(tmp_path: Path) -> None:
    root = made_up(tmp_path, *map(str, range(12)))
    assert find_nodes(range(12), root) == tuple((number,) for number in range(12))


def test_a_kernel_that_knows_no_nodes_has_one(tmp_path: Path) -> None:
    assert find_nodes({2, 0}, tmp_path / "none") == ((0, 2),)


def test_this_machine_has_those_that_this_process_may_use() -> None:
    assert set(chain.from_iterable(find_nodes())) == os.sched_getaffinity(0)


@pytest.mark.parametrize("workers", range(1, 12))
def test_no_share_spans_nodes_and_all_are_fair(workers: int) -> None:
    shares = [share_of(TWO_NODES, number, workers) for number in range(1, workers + 1)]
    assert all(any(set(share) <= set(node) for node in TWO_NODES) for share in shares)
    assert all(shares)
    if 2 <= workers <= 8:
        assert len(set(chain.from_iterable(shares))) == sum(map(len, shares)), "none is in two"
        assert set(chain.from_iterable(shares)) == set(range(9)), "none is idle"


def test_a_number_above_the_count_begins_again() -> None:
    assert share_of(TWO_NODES, 3, 2) == share_of(TWO_NODES, 1, 2)


@pytest.mark.parametrize(("workers", "threads"), [(1, 9), (2, 4), (9, 1), (20, 1)])
def test_threads_fill_the_machine_and_everybody_has_one(workers: int, threads: int) -> None:
    assert threads_for(TWO_NODES, workers) == threads
