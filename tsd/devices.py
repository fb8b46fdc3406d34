"""What this machine can run models on, asked without loading a driver or torch, and who uses it.

Devices are named as torch names them: `cuda:0` …, or `cpu`."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Sequence
from itertools import takewhile
from pathlib import Path

VISIBLE_GPUS = "CUDA_VISIBLE_DEVICES"
Place = tuple[str, ...]
"""The devices of one worker."""


def find_devices(visible: str | None = None) -> tuple[str, ...]:
    """`cuda:0` … as the driver's device nodes say, without loading it; else `cpu`.

    `visible`: the value of CUDA_VISIBLE_DEVICES, where it is set; workers will see no others."""
    nodes = [node for node in Path("/dev").glob("nvidia[0-9]*") if node.name[6:].isdigit()]
    count = len(nodes) if visible is None else min(len(nodes), len(visible_gpus(visible)))
    return tuple(f"cuda:{index}" for index in range(count)) or ("cpu",)


def visible_gpus(visible: str) -> list[str]:
    """The names in a CUDA_VISIBLE_DEVICES, up to the first that is none, as CUDA reads it."""
    names = (name.strip() for name in visible.split(","))
    return list(takewhile(lambda name: name not in ("", "-1"), names))


def usual_workers(visible: str | None = None) -> int:
    """How many workers fill the machine: one a GPU, or without any one a processor."""
    devices = find_devices(visible)
    return len(os.sched_getaffinity(0)) if devices == ("cpu",) else len(devices)


class DeviceUse:
    """How many workers each device has, of all models together."""

    def __init__(self) -> None:
        self._workers: Counter[str] = Counter()

    def take(self, places: Sequence[Place]) -> Place:
        """The least used of these places; of equals the first."""
        chosen = min(places, key=lambda place: sum(self._workers[device] for device in place))
        self._workers.update(chosen)
        return chosen

    def give_back(self, place: Place) -> None:
        """The worker that had this place is gone for good."""
        self._workers.subtract(place)
