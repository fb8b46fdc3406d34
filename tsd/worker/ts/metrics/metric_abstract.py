"""What every metric has: a name, a unit, the names of its labels, and a kind."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence

from ts.metrics.metric_type_enum import MetricTypes
from ts.metrics.unit import UNITS


class MetricAbstract(ABC):
    """A metric without its values."""

    def __init__(
        self,
        metric_name: str,
        unit: str | None,
        dimension_names: Sequence[str] | None = None,
        metric_type: MetricTypes = MetricTypes.COUNTER,
    ) -> None:
        self.metric_name = metric_name
        self.unit = UNITS.get(unit, str(unit))
        self.dimension_names = list(dimension_names or ())
        self.metric_type = metric_type

    @abstractmethod
    def add_or_update(
        self, value: float, dimension_values: Sequence[object] = (), request_id: str = ""
    ) -> None:
        """Report a value for the series that these label values name."""
