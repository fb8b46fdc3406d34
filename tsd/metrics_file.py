"""Which of TorchServe's metrics there are: as a metrics.yaml declares them, or as built in here.

`ts_metrics` are the daemon's, `model_metrics` those of handlers. A label's place counts, not its
name: the values come in the order in which the labels are declared, the host's name last."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from tsd.errors import ConfigError

MAX_FILE_BYTES = 1 << 20
METRIC_NAME = r"^(?!tsd_)[a-zA-Z_:][a-zA-Z0-9_:]{0,199}$"
LABEL_NAME = r"^(?!__)(?!le$)[a-zA-Z_][a-zA-Z0-9_]{0,199}$"
HOSTNAME = "Hostname"

Kind = Literal["counter", "gauge", "histogram"]


@dataclass(frozen=True, slots=True)
class Declared:
    """One metric; the last of its labels is the host's name."""

    name: str
    kind: Kind
    unit: str
    labels: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class MetricsFile:
    """All declared metrics, by name."""

    frontend: Mapping[str, Declared]
    model: Mapping[str, Declared]

    def for_workers(self) -> dict[str, Any]:
        """What a worker is told: the same as TorchServe's workers read from the file."""
        kinds: dict[str, list[dict[str, Any]]] = {}
        for one in self.model.values():
            # Workers leave the host's name to the daemon.
            labels = list(one.labels[:-1])
            part = {"name": one.name, "unit": one.unit, "dimensions": labels}
            kinds.setdefault(one.kind, []).append(part)
        return {"model_metrics": kinds}


def read(path: Path | None) -> MetricsFile:
    """The file's metrics, or the built-in ones; ConfigError when the file is no such file."""
    if path is None:
        return MetricsFile(_by_name(FRONTEND), _by_name(MODEL))
    # Slow to import, and seldom needed.
    import yaml

    try:
        if path.stat().st_size > MAX_FILE_BYTES:
            raise ValueError(f"it is larger than {MAX_FILE_BYTES} bytes")
        content = msgspec.convert(yaml.safe_load(path.read_text("utf-8")), _File)
    except (OSError, ValueError, yaml.YAMLError) as error:
        raise ConfigError(
            f"metrics file {path}", why=str(error), fix="see TorchServe's metrics.yaml"
        ) from error
    return MetricsFile(
        _by_name(_declared(content.ts_metrics or _Section(), ())),
        _by_name(_declared(content.model_metrics, (HOSTNAME,))),
    )


class _Metric(msgspec.Struct, frozen=True):
    name: Annotated[str, Meta(pattern=METRIC_NAME)]
    unit: Annotated[str, Meta(max_length=200)]
    dimensions: list[Annotated[str, Meta(pattern=LABEL_NAME)]]


class _Section(msgspec.Struct, frozen=True):
    counter: list[_Metric] | None = None
    gauge: list[_Metric] | None = None
    histogram: list[_Metric] | None = None


class _File(msgspec.Struct, frozen=True):
    model_metrics: _Section
    ts_metrics: _Section | None = None

    def __post_init__(self) -> None:
        section = self.model_metrics
        if not (section.counter or section.gauge or section.histogram):
            raise ValueError("model_metrics declares nothing")


def _declared(section: _Section, more: tuple[str, ...]) -> Iterable[Declared]:
    kinds: tuple[Kind, ...] = ("counter", "gauge", "histogram")
    for kind in kinds:
        for one in getattr(section, kind) or ():
            labels = (*one.dimensions, *more)
            if not labels or len(set(labels)) < len(labels):
                raise ConfigError(
                    f"metric {one.name} of the metrics file",
                    why=f"its dimensions are {', '.join(labels) or 'missing'}",
                    fix="name each one once, the host's last",
                )
            yield Declared(one.name, kind, one.unit, labels)


def _by_name(metrics: Iterable[Declared]) -> dict[str, Declared]:
    return {one.name: one for one in metrics}


_HOST = ("Level", HOSTNAME)
_GPU = ("Level", "DeviceId", HOSTNAME)
_ASKED = ("model_name", "model_version", "hostname")
_MODEL = ("ModelName", "Level", HOSTNAME)

FRONTEND = (
    Declared("Requests2XX", "counter", "Count", _HOST),
    Declared("Requests4XX", "counter", "Count", _HOST),
    Declared("Requests5XX", "counter", "Count", _HOST),
    Declared("ts_inference_requests_total", "counter", "Count", _ASKED),
    Declared("ts_inference_latency_microseconds", "counter", "Microseconds", _ASKED),
    Declared("ts_queue_latency_microseconds", "counter", "Microseconds", _ASKED),
    Declared("QueueTime", "gauge", "Milliseconds", _HOST),
    Declared("WorkerThreadTime", "gauge", "Milliseconds", _HOST),
    Declared("WorkerLoadTime", "gauge", "Milliseconds", ("WorkerName", *_HOST)),
    Declared("CPUUtilization", "gauge", "Percent", _HOST),
    Declared("MemoryUsed", "gauge", "Megabytes", _HOST),
    Declared("MemoryAvailable", "gauge", "Megabytes", _HOST),
    Declared("MemoryUtilization", "gauge", "Percent", _HOST),
    Declared("DiskUsage", "gauge", "Gigabytes", _HOST),
    Declared("DiskUtilization", "gauge", "Percent", _HOST),
    Declared("DiskAvailable", "gauge", "Gigabytes", _HOST),
    Declared("GPUMemoryUtilization", "gauge", "Percent", _GPU),
    Declared("GPUMemoryUsed", "gauge", "Megabytes", _GPU),
    Declared("GPUUtilization", "gauge", "Percent", _GPU),
)
MODEL = (
    Declared("HandlerTime", "gauge", "ms", _MODEL),
    Declared("PredictionTime", "gauge", "ms", _MODEL),
)
