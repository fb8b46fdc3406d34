"""TorchServe's metrics: the daemon's own and those of handlers, on the page or as lines of a log.

The page's text is that of TorchServe's exporter, to the comma: dashboards and tests match it. Which
metrics there are is declared in metrics_file.py; what handlers report is not believed."""

from __future__ import annotations

import math
import re
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import get_args

from tsd.log import get_logger
from tsd.metrics import Histogram
from tsd.metrics_file import HOSTNAME, LABEL_NAME, METRIC_NAME, Declared, Kind, MetricsFile
from tsd.settings import MetricsSettings
from tsd.system_load import Reading

BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0)
LEGACY = (
    "ts_inference_requests_total",
    "ts_inference_latency_microseconds",
    "ts_queue_latency_microseconds",
)
"""What the page shows in mode `legacy`."""

LINE = re.compile(
    r"(?:INFO > )?(?:\[METRICS\])?\s*(?P<name>[\w\s]{1,200})\.(?P<unit>[\w\s]{1,200})"
    r":(?P<value>[0-9.eE+-]{1,40})\|#(?P<labels>[^|]{0,2000})(?:\|#type:(?P<kind>[^|,]{1,20}))?"
    r"\|#hostname:(?P<host>[^,]{1,255}),[^,]{1,40}(?:,(?P<request_ids>.*))?",
    re.ASCII,
)

log = get_logger()

Values = tuple[str, ...]
WriteLine = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Reported:
    """What one line of a handler says."""

    declared: Declared
    values: Values
    value: float
    request_ids: str


class Family:
    """One metric with all its series; `values` are those of its labels."""

    def __init__(self, declared: Declared) -> None:
        self.declared = declared
        self.series: dict[Values, float | Histogram] = {}

    def update(self, values: Values, value: float) -> None:
        """Counters add, gauges hold the last value, histograms count."""
        kind = self.declared.kind
        if kind == "histogram":
            histogram = self.series.setdefault(values, Histogram(BUCKETS))
            assert isinstance(histogram, Histogram)
            histogram.observe(value)
        else:
            known = self.series.get(values, 0.0) if kind == "counter" else 0.0
            assert isinstance(known, float)
            self.series[values] = known + value

    def text(self, names: Collection[str] = ()) -> str:
        """Its part of the page; `names`: only the samples of these names."""
        samples = [
            f"{name}{{{labels}}} {float(value)!r}\n"
            for name, labels, value in self._samples()
            if not names or name in names
        ]
        if names and not samples:
            return ""
        name, kind, unit = self.declared.name, self.declared.kind, _escaped(self.declared.unit)
        about = f"Torchserve prometheus {kind} metric with unit: {unit}"
        return f"# HELP {name} {about}\n# TYPE {name} {kind}\n{''.join(samples)}"

    def _samples(self) -> Iterator[tuple[str, str, float]]:
        name = self.declared.name
        # At once: the page is made on a thread.
        for values, held in list(self.series.items()):
            labels = _label_text(self.declared.labels, values)
            if isinstance(held, float):
                yield name, labels, held
                continue
            for bound, below in held.cumulative():
                yield f"{name}_bucket", f'{labels}le="{bound}",', below
            yield f"{name}_count", labels, float(held.observed)
            yield f"{name}_sum", labels, held.total


class HandlerMetrics:
    """What handlers report, line by line. Lines that cannot be used are counted, one is logged.

    `write` gets what is not for the page: then nothing is kept here."""

    def __init__(
        self, declared: Mapping[str, Declared], settings: MetricsSettings, taken: Collection[str]
    ) -> None:
        self.dropped = 0
        self.write: WriteLine | None = None
        self._families = {name: Family(one) for name, one in declared.items()}
        self._settings = settings
        # Names that a handler cannot have.
        self._taken = taken
        self._kept = 0

    def take(self, line: str) -> None:
        """Count what the line says; it comes from a worker, or from what a handler printed."""
        reported = _parsed(line)
        if reported is None:
            self._drop(line)
            return
        family = self._families.get(reported.declared.name)
        if family is None:
            if not self._settings.auto_detect:
                return
            family = self._detected(reported)
        if family is None or not self._fits(family, reported):
            self._drop(line)
        elif self._settings.mode != "prometheus":
            if self.write is not None:
                self.write(_log_text(family.declared, reported))
        else:
            self._kept += reported.values not in family.series
            family.update(reported.values, reported.value)

    def families(self) -> list[Family]:
        """Those declared and those that came up."""
        return list(self._families.values())

    def _drop(self, line: str) -> None:
        if self.dropped == 0:
            log.warning("a handler's metric cannot be used: %s", line[:200], code="metric_dropped")
        self.dropped += 1

    def _detected(self, reported: Reported) -> Family | None:
        declared = reported.declared
        is_new_name = re.fullmatch(METRIC_NAME, declared.name) and declared.name not in self._taken
        are_labels = all(re.fullmatch(LABEL_NAME, label) for label in declared.labels)
        is_distinct = len(set(declared.labels)) == len(declared.labels)
        if not (is_new_name and are_labels and is_distinct and self._has_room()):
            return None
        self._kept += 1
        return self._families.setdefault(declared.name, Family(declared))

    def _fits(self, family: Family, reported: Reported) -> bool:
        if len(reported.values) != len(family.declared.labels):
            return False
        if family.declared.kind == "counter" and reported.value < 0:
            return False
        return reported.values in family.series or self._has_room()

    def _has_room(self) -> bool:
        return self._kept < self._settings.max_series


class TorchServeMetrics:
    """All of them, shown as the mode says."""

    def __init__(self, settings: MetricsSettings, declared: MetricsFile, host: str) -> None:
        self.handlers = HandlerMetrics(declared.model, settings, declared.frontend)
        self._mode = settings.mode
        self._host = host
        self._frontend = declared.frontend
        # By name and labels: how far counters have been logged.
        self._logged: dict[tuple[str, Values], float] = {}

    def page(self, readings: Iterable[Reading], names: Collection[str] = ()) -> str:
        """TorchServe's part of the metrics page; `names`: only samples of these names."""
        families = {
            name: Family(declared)
            for name, declared in self._frontend.items()
            if self._is_shown(name)
        }
        for reading in readings:
            family = families.get(reading.name)
            values = (*reading.labels, self._host)
            if family is not None and len(values) == len(family.declared.labels):
                family.update(values, reading.value)
        more = self.handlers.families() if self._mode == "prometheus" else []
        return "".join(family.text(names) for family in (*families.values(), *more))

    def log_lines(self, readings: Iterable[Reading]) -> list[str]:
        """What the log is to say that it has not said: of counters, by how much they have grown.

        A gauge is said again when it has changed."""
        before, self._logged, lines = self._logged, {}, []
        for reading in readings:
            declared = self._frontend.get(reading.name)
            if declared is None or self._is_shown(reading.name):
                continue
            key = (reading.name, reading.labels)
            self._logged[key] = reading.value
            value = _news(declared.kind, before.get(key), reading.value)
            if value is not None:
                said = Reported(declared, (*reading.labels, self._host), value, "")
                lines.append(_log_text(declared, said))
        return lines

    def _is_shown(self, name: str) -> bool:
        return self._mode == "prometheus" or (self._mode == "legacy" and name in LEGACY)


def _news(kind: Kind, before: float | None, now: float) -> float | None:
    """What to say of a value; None: nothing."""
    if kind != "counter":
        return None if now == before else now
    # One that has gone down counts a model that was loaded anew.
    grown = now - before if before is not None and now >= before else now
    return grown or None


def _parsed(line: str) -> Reported | None:
    """What a line says, the host's name added to its labels; None: nothing that can be used."""
    found = LINE.fullmatch(line)
    kind = ((found and found["kind"]) or "counter").lower()
    if found is None or kind not in get_args(Kind):
        return None
    try:
        value = float(found["value"])
    except ValueError:
        return None
    if not math.isfinite(value):
        return None
    pairs = [pair.partition(":") for pair in found["labels"].split(",") if ":" in pair]
    labels = (*[name for name, _, _ in pairs], HOSTNAME)
    values = (*[value for _, _, value in pairs], found["host"])
    declared = Declared(found["name"], _kind(kind), found["unit"], labels)
    return Reported(declared, values, value, found["request_ids"] or "")


def _kind(name: str) -> Kind:
    return next(kind for kind in get_args(Kind) if kind == name)


def _log_text(declared: Declared, reported: Reported) -> str:
    """A line of TorchServe's metrics logs."""
    *names, _host_name = declared.labels
    *values, host = reported.values
    labels = ",".join(f"{name}:{value}" for name, value in zip(names, values, strict=True))
    ids = f",requestID:{reported.request_ids}" if reported.request_ids else ""
    return (
        f"{declared.name}.{declared.unit}:{float(reported.value)!r}|#{labels}"
        f"|#hostname:{host}{ids},timestamp:{int(time.time())}"
    )


def _label_text(names: Iterable[str], values: Iterable[str]) -> str:
    return "".join(
        f'{name}="{_escaped(value, quotes=True)}",'
        for name, value in zip(names, values, strict=True)
    )


def _escaped(text: str, *, quotes: bool = False) -> str:
    escaped = text.replace("\\", r"\\").replace("\n", r"\n")
    return escaped.replace('"', r"\"") if quotes else escaped
