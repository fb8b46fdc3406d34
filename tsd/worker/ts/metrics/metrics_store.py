"""The store of metrics before there was a cache of them: deprecated, kept for what imports it.

What is in it goes nowhere by itself; `ts.service.emit_metrics` prints it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from ts.metrics.dimension import Dimension
from ts.metrics.metric import Metric
from ts.metrics.metric_cache_abstract import SIZE_UNITS, TIME_UNITS

# A handler that makes a label of what a request says must not fill the worker's memory.
MAX_SERIES = 1_000

Dimensions = Sequence[Dimension] | None


class MetricsStore:
    """Metrics by name, unit, request and labels."""

    def __init__(self, request_ids: object = None, model_name: str | None = None) -> None:
        self.store: list[Metric] = []
        self.request_ids = request_ids
        self.model_name = model_name
        self.cache: dict[str, Metric] = {}

    def set_request_ids(self, request_ids: object) -> None:
        """Whose values come next."""
        self.request_ids = request_ids

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
    ) -> None:
        _check_unit(unit, TIME_UNITS)
        self.add_metric(name, value, unit, idx, dimensions)

    def add_size(
        self,
        name: str,
        value: float,
        idx: int | None = None,
        unit: str = "MB",
        dimensions: Dimensions = None,
    ) -> None:
        _check_unit(unit, SIZE_UNITS)
        self.add_metric(name, value, unit, idx, dimensions)

    def add_percent(
        self, name: str, value: float, idx: int | None = None, dimensions: Dimensions = None
    ) -> None:
        self.add_metric(name, value, "percent", idx, dimensions)

    def add_error(self, name: str, value: float, dimensions: Dimensions = None) -> None:
        self._add(name, value, "", None, [Dimension("Level", "Error"), *(dimensions or ())])

    def add_metric(
        self,
        name: str,
        value: float,
        unit: str,
        idx: int | None = None,
        dimensions: Dimensions = None,
    ) -> None:
        model = Dimension("ModelName", self.model_name or "")
        labels = [*(dimensions or ()), model, Dimension("Level", "Model")]
        self._add(name, value, unit, self._ids_of(idx), labels)

    def _ids_of(self, idx: int | None) -> str:
        ids = self.request_ids or ""
        if not isinstance(ids, Mapping):
            # Handlers' own tests give anything that is different each time, such as a UUID.
            return str(ids)
        return ids[idx] if idx is not None and idx in ids else ",".join(ids.values())

    def _add(
        self, name: str, value: float, unit: str, request_id: str | None, labels: list[Dimension]
    ) -> None:
        key = "-".join([name, unit, str(request_id), *map(str, labels)])
        known = self.cache.get(key)
        if known is not None:
            known.update(value)
        elif len(self.store) < MAX_SERIES:
            metric = self.cache[key] = Metric(name, value, unit, labels, request_id)
            self.store.append(metric)


def _check_unit(unit: str, known: Sequence[str]) -> None:
    if unit not in known:
        raise ValueError(f"unit {unit!r} is none of {', '.join(known)}")
