"""A model directory becomes a handler ready to run, and a batch becomes answers.

Entry points are found by TorchServe's rules. Whatever a handler raises while it runs becomes an
answer; what it raises while it loads is the caller's to report. Bodies are codec.py's part."""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

from tsd.errors import BadRequest
from tsd.worker import codec
from tsd.worker.codec import Answer, DecodedRequest

if TYPE_CHECKING:
    # At run time imported by `load`: `ts` is registered after this module is imported.
    from ts.context import Context, RequestProcessor

Handle = Callable[[Any, Any], Any]


@dataclass(frozen=True, slots=True)
class LoadArguments:
    """What a worker knows of the model it loads; `handler` is empty for a bare model file."""

    model_name: str
    model_version: str
    model_dir: str
    handler: str
    manifest: dict[str, Any]
    model_yaml: dict[str, Any]
    batch_size: int
    device: str
    gpu_id: int | None
    limit_max_image_pixels: bool = True
    decode_input: bool = True


class LoadedModel:
    """A handler with its context: runs one batch at a time."""

    def __init__(self, handle: Handle, context: Context, *, decode_input: bool = True) -> None:
        from ts.context import RequestProcessor

        self.handle = handle
        self.context = context
        self.decode_input = decode_input
        self._processor = RequestProcessor

    def run(self, requests: Sequence[DecodedRequest]) -> list[Answer]:
        """One answer for each request, in order, whatever the handler does."""
        rows, processors, ids = [], [], []
        refused: dict[int, Answer] = {}
        for place, request in enumerate(requests):
            try:
                row, processor = self._decode(request)
            except BadRequest as error:
                refused[place] = codec.refused(error, error.status)
                continue
            rows.append(row)
            processors.append(processor)
            ids.append(request.request_id)
        if not rows:
            return list(refused.values())
        self.context.begin_batch(ids, processors)
        answers = self._handle(rows)
        return _woven(answers, refused) if refused else answers

    def _decode(self, request: DecodedRequest) -> tuple[dict[str, Any], RequestProcessor]:
        headers, body = request.headers, request.body
        row, media_types = codec.handler_input(headers, body, decode_input=self.decode_input)
        read = partial(codec.request_headers, headers, media_types, len(body))
        return row, self._processor(None, read)

    def _handle(self, rows: list[dict[str, Any]]) -> list[Answer]:
        try:
            results = self.handle(rows, self.context)
        except Exception as error:  # noqa: BLE001 (a handler may raise anything)
            return _failed(error, len(rows))
        if not isinstance(results, list):
            return [codec.bad_output("Invalid model predict output") for _ in rows]
        if len(results) != len(rows):
            return [codec.bad_output("number of batch response mismatched") for _ in rows]
        return [self._answer(place, result) for place, result in enumerate(results)]

    def _answer(self, place: int, result: Any) -> Answer:
        processor = self.context.request_processor[place]
        try:
            body = codec.encode(result)
            if self.context.intermediate_results:
                body = b"".join([*self._intermediate(place), body])
        except Exception:  # noqa: BLE001 (so may what it returned)
            return _refusal(result) or codec.bad_output("Unsupported model output data type.")
        return codec.answer(
            body,
            processor.get_response_status_code(),
            processor.get_response_status_phrase(),
            processor.get_response_headers(),
        )

    def _intermediate(self, place: int) -> Iterable[codec.Body]:
        return [codec.encode(results[place]) for results in self.context.intermediate_results]


def load(arguments: LoadArguments) -> LoadedModel:
    """The model, ready to run; raises whatever its code raises."""
    from ts.context import Context

    os.chdir(arguments.model_dir)
    sys.path.insert(0, arguments.model_dir)
    importlib.invalidate_caches()
    context = Context(
        arguments.model_name,
        arguments.model_dir,
        arguments.manifest,
        arguments.batch_size,
        arguments.gpu_id,
        limit_max_image_pixels=arguments.limit_max_image_pixels,
        model_yaml_config=arguments.model_yaml,
    )
    handle = _ready_handle(arguments, context)
    return LoadedModel(handle, context, decode_input=arguments.decode_input)


def _ready_handle(arguments: LoadArguments, context: Context) -> Handle:
    if not arguments.handler:
        from tsd.worker.tensor_handler import TensorHandler

        return _initialized(TensorHandler(), context)
    path, _, function = arguments.handler.partition(":")
    module = _import_handler(path)
    name = function or "handle"
    if hasattr(module, name):
        entry: Handle = getattr(module, name)
        entry(None, context)
        return entry
    return _initialized(_only_class(module)(), context)


def _initialized(handler: Any, context: Context) -> Handle:
    if not hasattr(handler, "handle"):
        raise ValueError(f"the class {type(handler).__name__} has no method named handle")
    handler.initialize(context)
    # Read after `initialize`: handlers may put something else in its place there.
    handle: Handle = handler.handle
    return handle


def _import_handler(path: str) -> ModuleType:
    """The module that a handler's path names: a file of the model, else a default handler."""
    folder, name = os.path.split(path)
    name = name.removesuffix(".py")
    if folder:
        sys.path.insert(1, str(Path(folder).absolute()))
    try:
        return importlib.import_module(name)
    except ImportError as own_error:
        try:
            return importlib.import_module(f"ts.torch_handler.{name}")
        except ImportError:
            # What the model's own module lacks says more than that it is no default handler.
            raise own_error from None


def _only_class(module: ModuleType) -> Callable[[], Any]:
    from ts.utils.util import list_classes_from_module

    classes = list_classes_from_module(module)
    if len(classes) != 1:
        raise ValueError(
            f"the handler {module.__name__} must define a function named handle or one class; "
            f"it defines {len(classes)} classes"
        )
    return classes[0]


def _failed(error: Exception, count: int) -> list[Answer]:
    refusal = _refusal(error)
    return [refusal] * count if refusal else codec.raised(error, count)


def _refusal(error: Any) -> Answer | None:
    """The answer that a PredictionException asks for."""
    from ts.utils.util import PredictionException

    if isinstance(error, PredictionException):
        return codec.refused(error.message, error.error_code)
    return None


def _woven(answers: Sequence[Answer], refused: dict[int, Answer]) -> list[Answer]:
    """All answers in the order of the requests; `refused` holds some, by place."""
    rest = iter(answers)
    total = len(answers) + len(refused)
    return [refused[place] if place in refused else next(rest) for place in range(total)]
