"""A metric that handlers report values of."""

from __future__ import annotations

import logging
from collections.abc import Sequence

from ts.metrics.dimension import Dimension
from ts.metrics.metric_abstract import MetricAbstract
from ts.metrics.metric_type_enum import MetricTypes
from ts.metrics.updates import PrintedUpdates, RequestIds, Updates

logger = logging.getLogger(__name__)

PRINTED = PrintedUpdates()


class CachingMetric(MetricAbstract):
    """Its values go to `updates`: the context's, or for a metric made alone, the output."""

    def __init__(
        self,
        metric_name: str,
        unit: str | None,
        dimension_names: Sequence[str] | None = None,
        metric_type: MetricTypes = MetricTypes.COUNTER,
        updates: Updates = PRINTED,
    ) -> None:
        super().__init__(metric_name, unit, dimension_names, metric_type)
        self._updates = updates

    def add_or_update(
        self,
        value: float,
        dimension_values: Sequence[object] = (),
        request_id: RequestIds = "",
    ) -> None:
        """Report a value; one that cannot be is logged and dropped, it costs no prediction."""
        try:
            number = self._checked(value, dimension_values)
        except (TypeError, ValueError) as error:
            logger.error("metric %s: %r is dropped: %s", self.metric_name, value, error)
        else:
            self._updates.add(self, tuple(dimension_values), number, request_id)

    def update(
        self, value: float, request_id: str = "", dimensions: Sequence[Dimension] = ()
    ) -> None:
        """The older way: the labels come with the value."""
        self.dimension_names = [dimension.name for dimension in dimensions]
        self.add_or_update(value, [dimension.value for dimension in dimensions], request_id)

    def _checked(self, value: float, dimension_values: Sequence[object]) -> float:
        if len(dimension_values) != len(self.dimension_names):
            names = ", ".join(self.dimension_names)
            raise ValueError(f"{list(dimension_values)} are not the values of {names}")
        number = float(value)
        if self.metric_type is MetricTypes.COUNTER and number < 0:
            raise ValueError("a counter cannot go down")
        return number
