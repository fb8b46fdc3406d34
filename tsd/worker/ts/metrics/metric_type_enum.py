"""The kinds of metrics."""

from enum import Enum


class MetricTypes(Enum):
    """How values of one metric add up."""

    COUNTER = "counter"
    GAUGE = "gauge"
    HISTOGRAM = "histogram"
