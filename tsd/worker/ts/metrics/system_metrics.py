"""The machine's load as metrics, for what imports it: the daemon measures by itself."""

from __future__ import annotations

import logging
from types import ModuleType

from ts.metrics.dimension import Dimension
from ts.metrics.metric import Metric

from tsd import system_load

system_metrics: list[Metric] = []
dimension = [Dimension("Level", "Host")]

HOST_METRICS = (
    *("CPUUtilization", "MemoryUsed", "MemoryAvailable", "MemoryUtilization"),
    *("DiskUsage", "DiskUtilization", "DiskAvailable"),
)
GPU_METRICS = ("GPUUtilization", "GPUMemoryUtilization", "GPUMemoryUsed")

logger = logging.getLogger(__name__)


def cpu_utilization() -> None:
    _add("CPUUtilization")


def memory_used() -> None:
    _add("MemoryUsed")


def memory_available() -> None:
    _add("MemoryAvailable")


def memory_utilization() -> None:
    _add("MemoryUtilization")


def disk_used() -> None:
    _add("DiskUsage")


def disk_utilization() -> None:
    _add("DiskUtilization")


def disk_available() -> None:
    _add("DiskAvailable")


def gpu_utilization(num_of_gpu: int) -> None:
    if num_of_gpu > 0:
        _add(*GPU_METRICS)


def collect_all(_mod: ModuleType | None, num_of_gpu: int) -> None:
    """Measure everything and log it, a line each; an empty one comes last."""
    _add(*HOST_METRICS, *(GPU_METRICS if num_of_gpu > 0 else ()))
    for metric in system_metrics:
        logger.info("%s", metric)
    logger.info("")


def _add(*names: str) -> None:
    for reading in system_load.measure():
        if reading.name in names:
            more = [Dimension("device_id", device) for device in reading.labels[1:]]
            labels = [*dimension, *more]
            system_metrics.append(Metric(reading.name, reading.value, reading.unit, labels))
