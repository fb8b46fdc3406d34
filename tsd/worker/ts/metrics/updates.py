"""What was measured and not told yet: bounded, and made into lines only when they are asked for.

A line is TorchServe's: a handler may print such lines itself."""

from __future__ import annotations

import logging
import socket
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import count
from typing import TYPE_CHECKING, Any

from ts.metrics.metric_type_enum import MetricTypes

if TYPE_CHECKING:
    from ts.metrics.metric_abstract import MetricAbstract

MAX_PENDING = 1_000
PREFIX = "[METRICS]"

logger = logging.getLogger(__name__)

RequestIds = str | Mapping[int, str] | None


@dataclass(slots=True)
class Update:
    """One value that was reported for one series."""

    metric: MetricAbstract
    dimension_names: list[str]
    dimension_values: tuple[object, ...]
    value: float
    request_ids: RequestIds
    at: float

    def line(self, host: str) -> str:
        """The line that tells of it."""
        metric, ids = self.metric, self.request_ids
        pairs = zip(self.dimension_names, self.dimension_values, strict=True)
        labels = ",".join(f"{name}:{value}" for name, value in pairs)
        text = (
            f"{PREFIX}{metric.metric_name}.{metric.unit}:{self.value}|#{labels}"
            f"|#type:{metric.metric_type.name}|#hostname:{host},{int(self.at)}"
        )
        known = ids if isinstance(ids, str) else ",".join((ids or {}).values())
        whole = f"{text},{known}" if known else text
        return whole.replace("\n", " ").replace("\r", " ")


class Updates:
    """The updates of one worker; handlers may report from several threads."""

    def __init__(self, *, coalesce: bool = False) -> None:
        # Of one series, keep a gauge's last value and a counter's sum.
        self.coalesce = coalesce
        self._waiting: dict[object, Update] = {}
        self._numbers = count()
        self._lost = 0
        self._lock = threading.Lock()

    def __deepcopy__(self, _memo: dict[int, Any]) -> Updates:
        # A copied context still reports to the same daemon.
        return self

    @property
    def are_waiting(self) -> bool:
        """Whether `take` would return anything."""
        return bool(self._waiting)

    def add(
        self,
        metric: MetricAbstract,
        dimension_values: tuple[object, ...],
        value: float,
        request_ids: RequestIds,
    ) -> None:
        """Remember one value; of too many the oldest is forgotten."""
        names = metric.dimension_names
        update = Update(metric, names, dimension_values, value, request_ids, time.time())
        key = self._key(metric, dimension_values)
        with self._lock:
            known = self._waiting.get(key)
            if known is not None and metric.metric_type is MetricTypes.COUNTER:
                update.value += known.value
            elif known is None and len(self._waiting) >= MAX_PENDING:
                del self._waiting[next(iter(self._waiting))]
                self._lost += 1
            self._waiting[key] = update

    def take(self) -> list[str]:
        """The lines since the last call."""
        if not self._waiting:
            return []
        with self._lock:
            updates, self._waiting = list(self._waiting.values()), {}
            lost, self._lost = self._lost, 0
        if lost:
            logger.warning("%d metrics too many were reported at once and are lost", lost)
        host = socket.gethostname()
        return [update.line(host) for update in updates]

    def _key(self, metric: MetricAbstract, dimension_values: tuple[object, ...]) -> object:
        if self.coalesce and metric.metric_type is not MetricTypes.HISTOGRAM:
            return (metric.metric_name, metric.metric_type, tuple(map(str, dimension_values)))
        return next(self._numbers)


class PrintedUpdates(Updates):
    """For metrics that belong to no worker's context: each value is a line of output at once."""

    def add(
        self,
        metric: MetricAbstract,
        dimension_values: tuple[object, ...],
        value: float,
        request_ids: RequestIds,
    ) -> None:
        """Log the value's line."""
        super().add(metric, dimension_values, value, request_ids)
        for line in self.take():
            logger.info("%s", line)
