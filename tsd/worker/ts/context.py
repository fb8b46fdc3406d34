"""What a handler knows of its model and of the batch it handles, and how it shapes the answers.

There is one `Context` for each worker. The loader gives it every batch before the handler is
called, and reads from the batch's `RequestProcessor`s what was set for the answers."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from typing import Any

import ts
from ts.metrics.metric_cache_yaml_impl import make_metrics


class RequestProcessor:
    """One request of a batch: its headers, and the status and headers of its answer."""

    def __init__(
        self,
        request_header: dict[str, Any] | None = None,
        read_header: Callable[[], dict[str, Any]] = dict,
    ) -> None:
        self._request_header = request_header
        self._read_header = read_header
        self._status_code = 200
        self._reason_phrase: str | None = None
        self._response_header: dict[str, Any] = {}

    def without_answer(self) -> RequestProcessor:
        """The same request, with nothing said about its answer."""
        return RequestProcessor(self._request_header, self._read_header)

    def get_request_properties(self) -> dict[str, Any]:
        """All headers; made on first use, because most handlers never ask."""
        if self._request_header is None:
            self._request_header = self._read_header()
        return self._request_header

    def get_request_property(self, key: str) -> Any:
        return self.get_request_properties().get(key)

    def report_status(self, code: int, reason_phrase: str | None = None) -> None:
        self._status_code = code
        self._reason_phrase = reason_phrase

    def get_response_status_code(self) -> int:
        return self._status_code

    def get_response_status_phrase(self) -> str | None:
        return self._reason_phrase

    def add_response_property(self, key: str, value: Any) -> None:
        self._response_header[key] = value

    def get_response_headers(self) -> dict[str, Any]:
        return self._response_header

    def get_response_header(self, key: str) -> Any:
        return self._response_header.get(key)


class Context:
    """The model, its properties and the batch at hand; handlers may add attributes of their own."""

    def __init__(  # noqa: PLR0913 (the parameters that handlers' own tests pass)
        self,
        model_name: str | None,
        model_dir: str | None,
        manifest: dict[str, Any] | None,
        batch_size: int | None,
        gpu: int | None,
        mms_version: str | None = ts.__version__,
        limit_max_image_pixels: bool = True,  # noqa: FBT001, FBT002 (TorchServe's signature)
        metrics: Any = None,
        model_yaml_config: dict[str, Any] | None = None,
    ) -> None:
        self.model_name = model_name
        self.manifest = manifest
        self.model_yaml_config = {} if model_yaml_config is None else model_yaml_config
        # Some handlers read these and `_request_processor` by their private names, TorchServe's.
        self._system_properties: dict[str, Any] = {
            "model_dir": model_dir,
            "gpu_id": gpu,
            "batch_size": batch_size,
            "server_name": "MMS",
            "server_version": mms_version,
            "limit_max_image_pixels": limit_max_image_pixels,
        }
        self._metrics: Any = make_metrics(model_name) if metrics is None else metrics
        self._processors: Any = [RequestProcessor({})]
        self.request_ids: dict[int, str] | None = None
        self._make_processors: Callable[[], list[RequestProcessor]] = list
        self.stopping_criteria: Any = None
        self.cl_socket: Any = None
        # How pieces of answers leave; None outside a worker.
        self.part_sender: Any = None
        # What begins a batch before the last one is answered; None: the handler does all at once.
        self.launching: Any = None
        self.header_key_sequence_id = _header_key("ID")
        self.header_key_sequence_start = _header_key("START")
        self.header_key_sequence_end = _header_key("END")

    @property
    def system_properties(self) -> dict[str, Any]:
        """The model's directory, its GPU, its batch size and the server's name."""
        return self._system_properties

    @property
    def metrics(self) -> Any:
        """Where a handler reports what it measures."""
        return self._metrics

    @metrics.setter
    def metrics(self, metrics: Any) -> None:
        self._metrics = metrics

    @property
    def request_processor(self) -> Any:
        """The requests of the batch, in order; made when they are first asked for."""
        if self._processors is None:
            self._processors = self._make_processors()
        return self._processors

    @request_processor.setter
    def request_processor(self, request_processor: Any) -> None:
        self._processors = request_processor

    _request_processor = request_processor

    @property
    def has_processors(self) -> bool:
        """For the loader: whether anybody has asked for the requests of the batch."""
        return self._processors is not None

    def begin_batch(
        self,
        request_ids: Sequence[str],
        processors: list[RequestProcessor] | Callable[[], list[RequestProcessor]],
    ) -> None:
        """Forget the last batch and take up the next. `processors`: there, or how they are made."""
        self.request_ids = dict(enumerate(request_ids))
        self._processors = None if callable(processors) else processors
        if callable(processors):
            self._make_processors = processors
        self.stopping_criteria = None
        self.metrics.set_request_ids(self.request_ids)

    def get_request_id(self, idx: int = 0) -> str | None:
        return (self.request_ids or {}).get(idx)

    def get_request_header(self, idx: int, key: str) -> Any:
        return self.request_processor[idx].get_request_property(key)

    def get_all_request_header(self, idx: int) -> dict[str, Any]:
        headers: dict[str, Any] = self.request_processor[idx].get_request_properties()
        return headers

    def get_sequence_id(self, idx: int) -> Any:
        return self.get_request_header(idx, self.header_key_sequence_id)

    def set_response_content_type(self, idx: int, value: str) -> None:
        self.set_response_header(idx, "content-type", value)

    def get_response_content_type(self, idx: int) -> Any:
        return self.get_response_headers(idx).get("content-type")

    def set_response_header(self, idx: int, key: str, value: Any) -> None:
        self.request_processor[idx].add_response_property(key, value)

    def get_response_headers(self, idx: int) -> dict[str, Any]:
        headers: dict[str, Any] = self.request_processor[idx].get_response_headers()
        return headers

    def set_response_status(self, code: int = 200, phrase: str = "", idx: int = 0) -> None:
        self.request_processor[idx].report_status(code, phrase)

    def set_all_response_status(self, code: int = 200, phrase: str = "") -> None:
        for processor in self.request_processor:
            processor.report_status(code, phrase)

    def get_response_status(self, idx: int) -> tuple[int, str | None]:
        processor = self.request_processor[idx]
        return processor.get_response_status_code(), processor.get_response_status_phrase()


def _header_key(part: str) -> str:
    name = f"TS_REQUEST_SEQUENCE_{part}"
    return os.environ.get(name, name.lower())
