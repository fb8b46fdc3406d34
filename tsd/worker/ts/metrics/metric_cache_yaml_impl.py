"""`context.metrics` of a worker: the metrics that a metrics.yaml declares, and those of handlers.

The worker is given the declarations by the daemon; a path is for handlers' own tests."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ts.handler_utils.optional import library
from ts.metrics.caching_metric import CachingMetric
from ts.metrics.metric_cache_abstract import MetricCacheAbstract
from ts.metrics.metric_cache_errors import (
    MetricsCacheIOError,
    MetricsCacheKeyError,
    MetricsCachePyYamlError,
    MetricsCacheTypeError,
    MetricsCacheValueError,
)
from ts.metrics.metric_type_enum import MetricTypes

# A handler that makes names of what a request says must not fill the worker's memory.
MAX_METRICS = 1_000
SECTION = "model_metrics"

logger = logging.getLogger(__name__)


class MetricsCacheYamlImpl(MetricCacheAbstract):
    """TorchServe's name for it; `declared`: what the file would say, already read."""

    def __init__(
        self, config_file_path: str | None = None, declared: Mapping[str, Any] | None = None
    ) -> None:
        super().__init__(config_file_path)
        self._declared = _read(config_file_path) if declared is None else declared

    def initialize_cache(self) -> None:
        """Make the declared metrics."""
        if SECTION not in self._declared:
            raise MetricsCacheKeyError(f"there is no {SECTION}")
        if not self._declared[SECTION]:
            raise MetricsCacheValueError(f"{SECTION} declares nothing")
        for kind, metrics in self._declared[SECTION].items():
            if kind not in {known.value for known in MetricTypes}:
                raise MetricsCacheKeyError(f"{kind} is no kind of metric")
            for metric in metrics or ():
                self._add_declared(metric, MetricTypes(kind))

    def add_metric_to_cache(
        self,
        metric_name: str,
        unit: str,
        dimension_names: list[str] | None = None,
        metric_type: MetricTypes = MetricTypes.COUNTER,
    ) -> CachingMetric:
        """A new metric with just these labels; it takes the place of one of its name and kind."""
        _check_type("unit", unit, str)
        _check_type("dimension_names", dimension_names or [], list)
        known = self._of_kind(metric_name, metric_type)
        metric = CachingMetric(metric_name, unit, dimension_names, metric_type, self.updates)
        if metric_name in known or len(known) < MAX_METRICS:
            known[metric_name] = metric
        return metric

    def get_metric(
        self, metric_name: str, metric_type: MetricTypes = MetricTypes.COUNTER
    ) -> CachingMetric:
        """The metric of that name and kind; MetricsCacheKeyError where there is none."""
        metric = self._of_kind(metric_name, metric_type).get(metric_name)
        if metric is None:
            raise MetricsCacheKeyError(f"no {metric_type.value} has the name {metric_name}")
        return metric

    def cache_keys(self) -> list[str]:
        """Kind and name of each metric."""
        return [f"{kind.value}:{name}" for kind, known in self.cache.items() for name in known]

    def _of_kind(self, metric_name: str, metric_type: MetricTypes) -> dict[str, CachingMetric]:
        _check_type("metric_name", metric_name, str)
        _check_type("metric_type", metric_type, MetricTypes)
        return self.cache.setdefault(metric_type, {})

    def _add_declared(self, metric: Mapping[str, Any], kind: MetricTypes) -> None:
        missing = [part for part in ("name", "unit", "dimensions") if part not in metric]
        if missing:
            raise MetricsCacheKeyError(f"a declared {kind.value} has no {', '.join(missing)}")
        self.add_metric_to_cache(metric["name"], metric["unit"], metric["dimensions"], kind)


def make_metrics(
    model_name: str | None, declared: Mapping[str, Any] | None = None, *, coalesce: bool = False
) -> MetricsCacheYamlImpl:
    """`context.metrics` for that model; `coalesce`: the daemon wants no line for each value."""
    metrics = MetricsCacheYamlImpl(declared=declared or {})
    metrics.model_name = model_name
    metrics.updates.coalesce = coalesce
    if declared:
        metrics.initialize_cache()
    return metrics


def _read(path: str | None) -> Mapping[str, Any]:
    if not path:
        raise MetricsCacheTypeError("no metrics file is named")
    # Only here: workers get along without it, and start the sooner.
    yaml = library("yaml", "a metrics file")
    try:
        content = yaml.safe_load(Path(path).read_text("utf-8"))
    except yaml.YAMLError as error:
        raise MetricsCachePyYamlError(f"{path} is not YAML: {error}") from error
    except OSError as error:
        raise MetricsCacheIOError(f"{path} cannot be read: {error}") from error
    return content if isinstance(content, Mapping) else {}


def _check_type(name: str, value: object, expected: type) -> None:
    if not isinstance(value, expected):
        raise MetricsCacheTypeError(f"{name} is {value!r}, which is no {expected.__name__}")
