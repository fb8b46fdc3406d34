"""The processors that this process may use, by memory node, and how workers share them."""

from __future__ import annotations

import os
from collections.abc import Collection
from pathlib import Path

NODES = Path("/sys/devices/system/node")
Nodes = tuple[tuple[int, ...], ...]
"""The processors of each memory node that has some."""


def find_nodes(usable: Collection[int] | None = None, root: Path = NODES) -> Nodes:
    """As the kernel tells them; one node where it does not. `usable`: those that may be used."""
    usable = os.sched_getaffinity(0) if usable is None else usable
    folders = sorted(root.glob("node[0-9]*"), key=lambda folder: int(folder.name[4:]))
    found = [_listed((folder / "cpulist").read_text()) for folder in folders]
    nodes = [tuple(number for number in numbers if number in usable) for numbers in found]
    return tuple(filter(None, nodes)) or (tuple(sorted(usable)),)


def share_of(nodes: Nodes, number: int, workers: int) -> tuple[int, ...]:
    """Whose processors the worker of that number, from 1, computes on: all of one node's.

    Workers go to the nodes in turn and divide each; where they are more, several have the same."""
    turn, node = divmod((number - 1) % workers, len(nodes))
    processors = nodes[node]
    neighbours = len(range(node, workers, len(nodes)))
    if neighbours >= len(processors):
        return (processors[turn % len(processors)],)
    first, end = (at * len(processors) // neighbours for at in (turn, turn + 1))
    return processors[first:end]


def threads_for(nodes: Nodes, workers: int) -> int:
    """How many threads each of so many workers may have, so that all together fill the machine."""
    return max(1, sum(map(len, nodes)) // workers)


def _listed(text: str) -> list[int]:
    """`0-3,8` as numbers."""
    ends = [part.split("-") for part in text.strip().split(",") if part]
    return [number for one in ends for number in range(int(one[0]), int(one[-1]) + 1)]
