"""Metrics as JSON."""

import json
from typing import Any

from ts.metrics.dimension import Dimension
from ts.metrics.metric import Metric


class MetricEncoder(json.JSONEncoder):
    """For `json.dumps(..., cls=MetricEncoder)`."""

    def default(self, obj: Any) -> Any:
        return obj.to_dict() if isinstance(obj, Metric | Dimension) else super().default(obj)
