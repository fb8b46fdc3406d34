"""The machine's load, under the names that TorchServe's dashboards ask for.

Measuring takes milliseconds: the daemon does it on a thread."""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from dataclasses import dataclass
from types import ModuleType
from typing import Any

MEGABYTE = 1 << 20
GIGABYTE = 1 << 30
DISK = "/"


@dataclass(frozen=True, slots=True)
class Reading:
    """What a metric shows at this moment; `labels`: its values for all labels but the host's."""

    name: str
    value: float
    labels: tuple[str, ...] = ("Host",)
    unit: str = ""


def measure() -> list[Reading]:
    """Processor (since the last call), memory, disk and what GPUs there are."""
    return [*_processor_and_memory(), *_disk(), *gpu_readings(_nvidia())]


def gpu_readings(nvml: Any) -> list[Reading]:
    """What NVIDIA's library says of each GPU; nothing where it does not work."""
    if nvml is None:
        return []
    try:
        nvml.nvmlInit()
    except nvml.NVMLError:
        return []
    try:
        return [
            reading
            for index in range(nvml.nvmlDeviceGetCount())
            for reading in _gpu(nvml, nvml.nvmlDeviceGetHandleByIndex(index), str(index))
        ]
    except nvml.NVMLError:
        return []
    finally:
        nvml.nvmlShutdown()


def _nvidia() -> ModuleType | None:
    """The binding of NVIDIA's library, where it is installed."""
    try:
        return importlib.import_module("pynvml")
    except ImportError:
        return None


def _processor_and_memory() -> Iterator[Reading]:
    # Not at the top: a runtime may lack it, and start-up does not wait for it.
    import psutil

    memory = psutil.virtual_memory()
    yield Reading("CPUUtilization", psutil.cpu_percent(), unit="percent")
    yield Reading("MemoryUsed", memory.used / MEGABYTE, unit="MB")
    yield Reading("MemoryAvailable", memory.available / MEGABYTE, unit="MB")
    yield Reading("MemoryUtilization", memory.percent, unit="percent")


def _disk() -> Iterator[Reading]:
    import psutil

    usage = psutil.disk_usage(DISK)
    yield Reading("DiskUsage", usage.used / GIGABYTE, unit="GB")
    yield Reading("DiskUtilization", usage.percent, unit="percent")
    yield Reading("DiskAvailable", usage.free / GIGABYTE, unit="GB")


def _gpu(nvml: Any, device: Any, index: str) -> Iterator[Reading]:
    labels = ("Host", index)
    memory = nvml.nvmlDeviceGetMemoryInfo(device)
    busy = nvml.nvmlDeviceGetUtilizationRates(device).gpu
    yield Reading("GPUUtilization", float(busy), labels, "percent")
    yield Reading("GPUMemoryUtilization", 100 * memory.used / memory.total, labels, "percent")
    yield Reading("GPUMemoryUsed", memory.used / MEGABYTE, labels, "MB")
