"""Names that handlers import from `ts.service`; calling handlers is the loader's part."""

from ts.utils.util import PredictionException

PREDICTION_METRIC = "PredictionTime"

__all__ = ["PREDICTION_METRIC", "PredictionException"]
