"""What `context.metrics` offers to handlers, wherever the declared metrics come from."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence

from ts.metrics.caching_metric import CachingMetric
from ts.metrics.dimension import Dimension
from ts.metrics.metric_cache_errors import MetricsCacheValueError
from ts.metrics.metric_type_enum import MetricTypes
from ts.metrics.updates import RequestIds, Updates

TIME_UNITS = ("ms", "s")
SIZE_UNITS = ("MB", "kB", "GB", "B")

Dimensions = Sequence[Dimension] | None


class MetricCacheAbstract(ABC):
    """Metrics by kind and name, and the values that the daemon has not been told of yet."""

    def __init__(self, config_file_path: str | None) -> None:
        self.cache: dict[MetricTypes, dict[str, CachingMetric]] = {}
        self.store: list[object] = []
        self.request_ids: RequestIds = None
        self.model_name: str | None = None
        self.config_file_path = config_file_path
        self.updates = Updates()
        self._defaults: list[Dimension] | None = None

    @abstractmethod
    def initialize_cache(self) -> None:
        """Make the declared metrics."""

    @abstractmethod
    def get_metric(
        self, metric_name: str, metric_type: MetricTypes = MetricTypes.COUNTER
    ) -> CachingMetric:
        """The metric of that name and kind; MetricsCacheKeyError where there is none."""

    @abstractmethod
    def add_metric_to_cache(
        self,
        metric_name: str,
        unit: str,
        dimension_names: list[str] | None = None,
        metric_type: MetricTypes = MetricTypes.COUNTER,
    ) -> CachingMetric:
        """A new metric with just these labels."""

    def set_request_ids(self, request_ids: RequestIds) -> None:
        """Whose values come next."""
        self.request_ids = request_ids

    @property
    def has_pending(self) -> bool:
        """For the worker: whether there is anything to tell."""
        return self.updates.are_waiting

    def flush(self) -> list[str]:
        """For the worker: a line for each value since the last call."""
        return self.updates.take()

    def add_metric(
        self,
        name: str,
        value: float,
        unit: str | None,
        idx: int | None = None,
        dimensions: Dimensions = None,
        metric_type: MetricTypes = MetricTypes.COUNTER,
    ) -> None:
        labels = self._with_defaults(dimensions)
        metric = self._find_or_add(name, unit, labels, metric_type)
        metric.add_or_update(value, [label.value for label in labels], self._ids_of(idx))

    def add_counter(
        self, name: str, value: float, idx: int | None = None, dimensions: Dimensions = None
    ) -> None:
        self.add_metric(name, value, "count", idx, dimensions)

    def add_time(
        self,
        name: str,
        value: float,
        idx: int | None = None,
        unit: str = "ms",
        dimensions: Dimensions = None,
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
        dimensions: Dimensions = None,
        metric_type: MetricTypes = MetricTypes.GAUGE,
    ) -> None:
        _check_unit(name, unit, SIZE_UNITS)
        self.add_metric(name, value, unit, idx, dimensions, metric_type)

    def add_percent(
        self,
        name: str,
        value: float,
        idx: int | None = None,
        dimensions: Dimensions = None,
        metric_type: MetricTypes = MetricTypes.GAUGE,
    ) -> None:
        self.add_metric(name, value, "percent", idx, dimensions, metric_type)

    def add_error(self, name: str, value: float, dimensions: Dimensions = None) -> None:
        labels = _with(dimensions, Dimension("Level", "Error"))
        metric = self._find_or_add(name, "", labels, MetricTypes.COUNTER)
        metric.add_or_update(value, [label.value for label in labels])

    def _with_defaults(self, dimensions: Dimensions) -> list[Dimension]:
        # Once: most values have no other labels, and each batch has such values.
        if self._defaults is None or self._defaults[0].value != self.model_name:
            self._defaults = [Dimension("ModelName", self.model_name), Dimension("Level", "Model")]
        model, level = self._defaults
        return _with(_with(dimensions, model), level) if dimensions else self._defaults

    def _ids_of(self, idx: int | None) -> RequestIds:
        """One request's id, or those of the whole batch."""
        if idx is None or self.request_ids is None or isinstance(self.request_ids, str):
            return self.request_ids
        return self.request_ids.get(idx, self.request_ids)

    def _find_or_add(
        self, name: str, unit: str | None, labels: list[Dimension], metric_type: MetricTypes
    ) -> CachingMetric:
        known = self.cache.get(metric_type)
        metric = known.get(name) if known is not None else None
        if metric is None:
            names = [label.name for label in labels]
            metric = self.add_metric_to_cache(name, unit or "", names, metric_type)
        return metric


def _with(dimensions: Dimensions, default: Dimension) -> list[Dimension]:
    """The labels, and the default one where none has its name. The caller's list stays as it is."""
    labels = list(dimensions or ())
    if all(label.name != default.name for label in labels):
        labels.append(default)
    return labels


def _check_unit(name: str, unit: str, known: Sequence[str]) -> None:
    if unit not in known:
        raise MetricsCacheValueError(f"metric {name}: unit {unit!r} is none of {', '.join(known)}")
