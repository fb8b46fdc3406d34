"""One value of a metric with its labels: the older way, kept for what imports it."""

from __future__ import annotations

import socket
import time
from collections.abc import Sequence

from ts.metrics.caching_metric import CachingMetric
from ts.metrics.dimension import Dimension
from ts.metrics.metric_type_enum import MetricTypes


class Metric:
    """A value that can be printed, encoded and updated."""

    def __init__(
        self,
        name: str,
        value: float,
        unit: str | None,
        dimensions: Sequence[Dimension],
        request_id: str | None = None,
        metric_method: str | None = None,
    ) -> None:
        self.metric_type = MetricTypes.COUNTER
        self.dimensions = dimensions
        self.dimension_names = [dimension.name for dimension in dimensions]
        self.dimension_values = [dimension.value for dimension in dimensions]
        self._metric = CachingMetric(name, unit, self.dimension_names, self.metric_type)
        self.name = self._metric.metric_name
        self.unit = self._metric.unit
        self.metric_method = metric_method
        self.value = value
        self.request_id = request_id

    def update(self, value: float) -> None:
        """Report a value."""
        self._metric.add_or_update(value, self.dimension_values, self.request_id)

    def reset(self) -> None:
        """Report that there is none."""
        self.update(0)

    def __str__(self) -> str:
        labels = ",".join(map(str, self.dimensions))
        text = f"{self.name}.{self.unit}:{self.value}|#{labels}|#hostname:{socket.gethostname()}"
        ids = f",{self.request_id}" if self.request_id else ""
        return f"{text},{int(time.time())}{ids}"

    def to_dict(self) -> dict[str, object]:
        return {
            "MetricName": self.name,
            "Value": self.value,
            "Unit": self.unit,
            "Dimensions": self.dimensions,
            "Timestamp": int(time.time()),
            "HostName": socket.gethostname(),
            "RequestId": self.request_id,
        }
