"""The machine's load is measured, GPUs only where NVIDIA's binding is."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from tsd.metrics_file import FRONTEND
from tsd.system_load import gpu_readings, measure


def nvml(**changes: Any) -> SimpleNamespace:
    """NVIDIA's binding on a machine with one GPU: a quarter of its memory is taken."""
    names: dict[str, Any] = {
        "NVMLError": LookupError,
        "nvmlInit": lambda: None,
        "nvmlShutdown": lambda: None,
        "nvmlDeviceGetCount": lambda: 1,
        "nvmlDeviceGetHandleByIndex": lambda index: index,
        "nvmlDeviceGetMemoryInfo": lambda _: SimpleNamespace(used=1 << 30, total=4 << 30),
        "nvmlDeviceGetUtilizationRates": lambda _: SimpleNamespace(gpu=37),
    }
    return SimpleNamespace(**names | changes)


def fail(*_: object) -> None:
    raise LookupError("no driver")


def test_each_reading_belongs_to_a_metric_that_is_declared() -> None:
    labels = {metric.name: len(metric.labels) - 1 for metric in FRONTEND}
    readings = {reading.name: reading for reading in measure()}
    for reading in readings.values():
        assert len(reading.labels) == labels[reading.name]
    assert 0 < readings["MemoryUtilization"].value <= 100
    assert readings["DiskAvailable"].value > 0


def test_gpus_are_read_where_there_are_some() -> None:
    readings = gpu_readings(nvml())
    assert {reading.labels for reading in readings} == {("Host", "0")}
    found = {reading.name: reading.value for reading in readings}
    assert found == {"GPUUtilization": 37, "GPUMemoryUtilization": 25, "GPUMemoryUsed": 1024}


@pytest.mark.parametrize(
    "binding",
    [None, nvml(nvmlInit=fail), nvml(nvmlDeviceGetUtilizationRates=fail)],
    ids=["no binding", "no driver", "no readings"],
)
def test_a_gpu_that_cannot_be_read_is_none(binding: SimpleNamespace | None) -> None:
    assert gpu_readings(binding) == []
