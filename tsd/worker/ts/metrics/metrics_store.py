"""The values that a handler reported, by name, unit and labels. Who shows them is not said here.

A counter holds its sum, everything else its last value."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import NamedTuple

from ts.metrics.dimension import Dimension
from ts.metrics.metric_type_enum import MetricTypes
from ts.metrics.unit import UNITS

# A handler that makes a label of what a request says must not fill the worker's memory.
MAX_SERIES = 1_000

TIME_UNITS = ("ms", "s")
SIZE_UNITS = ("MB", "kB", "GB", "B")

logger = logging.getLogger(__name__)


class MetricKey(NamedTuple):
    """One series: a metric with values for its labels."""

    name: str
    unit: str
    metric_type: MetricTypes
    dimensions: tuple[Dimension, ...]


class MetricsStore:
    """The metrics of one worker; handlers reach it as `context.metrics`."""

    def __init__(self, request_ids: str = "", model_name: str | None = None) -> None:
        self.request_ids = request_ids
        self.model_name = model_name
        self.cache: dict[MetricKey, float] = {}
        self._defaults = (Dimension("ModelName", model_name or ""), Dimension("Level", "Model"))

    def set_request_ids(self, request_ids: str) -> None:
        self.request_ids = request_ids

    def add_metric(
        self,
        name: str,
        value: float,
        unit: str | None = None,
        idx: int | None = None,
        dimensions: Sequence[Dimension] = (),
        metric_type: MetricTypes = MetricTypes.COUNTER,
    ) -> None:
        names = {dimension.name for dimension in dimensions}
        missing = [default for default in self._defaults if default.name not in names]
        key = MetricKey(name, UNITS.get(unit, str(unit)), metric_type, (*dimensions, *missing))
        self._add(key, float(value))

    def add_counter(
        self,
        name: str,
        value: float,
        idx: int | None = None,
        dimensions: Sequence[Dimension] = (),
    ) -> None:
        self.add_metric(name, value, "count", idx, dimensions)

    def add_time(
        self,
        name: str,
        value: float,
        idx: int | None = None,
        unit: str = "ms",
        dimensions: Sequence[Dimension] = (),
        metric_type: MetricTypes = MetricTypes.GAUGE,
    ) -> None:
        _check_unit(name, unit, TIME_UNITS)
        self.add_metric(name, value, unit, idx, dimensions, metric_type)

    def add_size(
        self,
        name: str,
        value: float,
        idx: int | None = None,
        unit: str = "MB",
        dimensions: Sequence[Dimension] = (),
        metric_type: MetricTypes = MetricTypes.GAUGE,
    ) -> None:
        _check_unit(name, unit, SIZE_UNITS)
        self.add_metric(name, value, unit, idx, dimensions, metric_type)

    def add_percent(
        self,
        name: str,
        value: float,
        idx: int | None = None,
        dimensions: Sequence[Dimension] = (),
        metric_type: MetricTypes = MetricTypes.GAUGE,
    ) -> None:
        self.add_metric(name, value, "percent", idx, dimensions, metric_type)

    def add_error(self, name: str, value: float, dimensions: Sequence[Dimension] = ()) -> None:
        labels = (*dimensions, Dimension("Level", "Error"))
        self.add_metric(name, value, "", None, labels)

    def _add(self, key: MetricKey, value: float) -> None:
        is_counter = key.metric_type is MetricTypes.COUNTER
        if is_counter and value < 0:
            logger.warning("counter %s cannot go down: %s is dropped", key.name, value)
        elif key not in self.cache and len(self.cache) >= MAX_SERIES:
            logger.warning("%d series are kept; %s is dropped", MAX_SERIES, key.name)
        else:
            self.cache[key] = value + (self.cache.get(key, 0.0) if is_counter else 0.0)


def _check_unit(name: str, unit: str, known: Sequence[str]) -> None:
    if unit not in known:
        raise ValueError(f"metric {name}: unit {unit!r} is none of {', '.join(known)}")
