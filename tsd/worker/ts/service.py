"""Service: a handler with its context, called with what TorchServe's wire brings.

tsd's own workers call handlers by tsd/worker/loader.py; this is for code that imports it, such as
the tests of a handler."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import ts
from ts.context import Context, RequestProcessor
from ts.utils.util import PredictionException, get_yaml_config

__all__ = ["PREDICTION_METRIC", "PredictionException", "Service", "emit_metrics"]

PREDICTION_METRIC = "PredictionTime"

logger = logging.getLogger(__name__)


class Outcome(NamedTuple):
    """What became of a batch: results, or None with what the client is told."""

    results: list[Any] | None
    message: str
    code: int


class Service:
    """An entry point with the context that it is called with."""

    def __init__(  # noqa: PLR0913 (TorchServe's signature)
        self,
        model_name: str,
        model_dir: str,
        manifest: dict[str, Any] | None,
        entry_point: Callable[[Any, Context], Any],
        gpu: int | None,
        batch_size: int | None,
        limit_max_image_pixels: bool = True,  # noqa: FBT001, FBT002
        metrics_cache: Any = None,
    ) -> None:
        # Who calls a handler himself takes it from here; the names are TorchServe's.
        self._context = Context(
            model_name,
            model_dir,
            manifest,
            batch_size,
            gpu,
            ts.__version__,
            limit_max_image_pixels,
            metrics_cache,
            _yaml_config(model_dir, manifest),
        )
        self._entry_point = entry_point
        self.cl_socket: Any = None

    @property
    def context(self) -> Context:
        """What the handler is called with."""
        return self._context

    def set_cl_socket(self, cl_socket: Any) -> None:
        """Where answers before the last go to."""
        self.cl_socket = cl_socket

    @staticmethod
    def retrieve_data_for_inference(
        batch: Sequence[Mapping[str, Any]] | None,
    ) -> tuple[list[RequestProcessor], list[dict[str, Any]], dict[int, str]]:
        """A batch of the wire, as the headers, the rows and the request ids of a handler."""
        if batch is None:
            raise ValueError("Received invalid inputs")
        processors, rows, ids = [], [], {}
        for index, request in enumerate(batch):
            parameters = request["parameters"]
            headers = {each["name"]: {"content-type": each["contentType"]} for each in parameters}
            for header in request.get("headers") or ():
                headers[header["name"].decode()] = header["value"].decode()
            processors.append(RequestProcessor(headers))
            rows.append({each["name"]: each["value"] for each in parameters})
            ids[index] = request["requestId"].decode()
        return processors, rows, ids

    def predict(self, batch: Sequence[Mapping[str, Any]] | None) -> Any:
        """The answer to a batch, as bytes of the wire."""
        from ts.protocol.otf_message_handler import create_predict_response

        processors, rows, ids = self.retrieve_data_for_inference(batch)
        self.context.request_processor = processors
        self.context.request_ids = ids
        self.context.cl_socket = self.cl_socket
        outcome = self._run(rows)
        context = None if outcome.results is None else self.context
        return create_predict_response(
            outcome.results, ids, outcome.message, outcome.code, context=context
        )

    def _run(self, rows: list[dict[str, Any]]) -> Outcome:
        begin = time.perf_counter()
        try:
            results = self._entry_point(rows, self.context)
        except Exception as error:
            logger.warning("the handler raised", exc_info=True)
            return _raised(error)
        if not isinstance(results, list):
            return Outcome(None, "Invalid model predict output", 503)
        if len(results) != len(rows):
            return Outcome(None, "number of batch response mismatched", 503)
        elapsed_ms = (time.perf_counter() - begin) * 1000
        self.context.metrics.add_time(PREDICTION_METRIC, round(elapsed_ms, 2))
        return Outcome(results, "Prediction success", 200)


def emit_metrics(metrics: Iterable[Any] | None) -> None:
    """Print metrics in the form that the server reads."""
    for metric in metrics or ():
        logger.info("[METRICS]%s", metric)


def _yaml_config(model_dir: str, manifest: dict[str, Any] | None) -> dict[str, Any]:
    file = (manifest or {}).get("model", {}).get("configFile")
    return (get_yaml_config(Path(model_dir, file)) or {}) if file else {}


def _raised(error: Exception) -> Outcome:
    if isinstance(error, PredictionException):
        return Outcome(None, error.message, error.error_code)
    if isinstance(error, MemoryError) or "CUDA" in str(error):
        return Outcome(None, "Out of resources", 507)
    return Outcome(None, "Prediction failed", 503)
