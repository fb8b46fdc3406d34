"""A model directory becomes a handler ready to run, and a batch becomes answers.

Entry points are found by TorchServe's rules. Whatever a handler raises while it runs becomes an
answer; what it raises while it loads is the caller's to report. Bodies are codec.py's part."""

from __future__ import annotations

import importlib
import inspect
import os
import sys
import time
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

from tsd.errors import BadRequest
from tsd.ipc.layout import RequestEntry
from tsd.worker import codec
from tsd.worker.codec import Answer, Bodies

if TYPE_CHECKING:
    # At run time imported by `load`: `ts` is registered after this module is imported.
    from ts.context import Context, RequestProcessor

Handle = Callable[[Any, Any], Any]
Inputs = dict[str, Any]
MediaTypes = dict[str, str]

PREDICTION_METRIC = "PredictionTime"


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
    extra_paths: Sequence[str] = ()
    envelope: str = ""
    limit_max_image_pixels: bool = True
    decode_input: bool = True
    metrics_config: dict[str, Any] = field(default_factory=dict)
    metrics_lines: bool = False


class Row:
    """One request as its handler gets it, and what the handler says of its answer."""

    __slots__ = ("_body_bytes", "_head", "_media_types", "_processor", "inputs", "request_id")

    def __init__(
        self, entry: RequestEntry, head: codec.RequestHead, inputs: Inputs, media_types: MediaTypes
    ) -> None:
        self.request_id = entry.request_id.decode("ascii")
        self.inputs = inputs
        self._head = head
        self._media_types = media_types
        self._body_bytes = len(entry.body)
        self._processor: RequestProcessor | None = None

    @property
    def processor(self) -> RequestProcessor:
        """Its headers, and the status and headers of its answer; made on first use."""
        if self._processor is None:
            from ts.context import RequestProcessor

            self._processor = RequestProcessor(None, self._read_headers)
        return self._processor

    @property
    def has_processor(self) -> bool:
        """Whether anybody has asked for it."""
        return self._processor is not None

    def go_on(self) -> None:
        """The same request in the next step: its headers, no inputs, nothing said about it."""
        self.inputs = {}
        self._processor = self.processor.without_answer()

    def _read_headers(self) -> dict[str, Any]:
        length = self._body_bytes if self._head.inputs is None else None
        return codec.request_headers(self._head.headers, self._media_types, length)


class LoadedModel:
    """A handler with its context. Batches go through `run`; overlapping.py uses the steps of it."""

    def __init__(
        self, handle: Handle, context: Context, *, decode_input: bool = True, lends: bool = False
    ) -> None:
        """`lends`: the handler reads bytes where they lie, and has done so when it returns."""
        self.handle = handle
        self.context = context
        self.decode_input = decode_input
        self.encode = codec.encode_view if lends else codec.encode
        self._hand = codec.lent if lends else bytearray

    def run(self, entries: Sequence[RequestEntry]) -> Bodies | list[Answer]:
        """One answer for each request, in order, whatever the handler does."""
        rows: list[Row] = []
        refused: dict[int, Answer] = {}
        for place, entry in enumerate(entries):
            row = self.row(entry)
            if isinstance(row, Row):
                rows.append(row)
            else:
                refused[place] = row
        if not refused:
            return self._run_rows(rows)
        answers = self._run_rows(rows) if rows else []
        return _woven(codec.answers_with(answers), refused)

    def row(self, entry: RequestEntry) -> Row | Answer:
        """The request decoded, or the answer that refuses it."""
        head = codec.head_of(entry.fields)
        try:
            inputs, types = codec.decoded_row(
                head, entry.body, decode_input=self.decode_input, hand=self._hand
            )
        except BadRequest as error:
            return codec.refused(error, error.status)
        return Row(entry, head, inputs, types)

    def call(self, rows: Sequence[Row], context: Context) -> Any:
        """What the handler returns, its time measured; raises what it raises."""
        _begin(rows, context)
        began_at = time.perf_counter()
        results = self.handle(taken(rows), context)
        _measure(began_at, context)
        return results

    async def call_async(self, rows: Sequence[Row], context: Context) -> Any:
        """As `call`, for handlers that may be coroutine functions."""
        _begin(rows, context)
        began_at = time.perf_counter()
        results = self.handle(taken(rows), context)
        if inspect.isawaitable(results):
            results = await results
        _measure(began_at, context)
        return results

    def answers_of(self, results: Any, rows: Sequence[Row]) -> list[Answer]:
        """What a handler returned, as one answer for each row."""
        if not isinstance(results, list):
            return [codec.bad_output("Invalid model predict output") for _ in rows]
        if len(results) != len(rows):
            return [codec.bad_output("number of batch response mismatched") for _ in rows]
        return [self._answer_of(result, row) for result, row in zip(results, rows, strict=True)]

    def _answer_of(self, result: Any, row: Row) -> Answer:
        """One result with what the handler set for its status and headers."""
        try:
            body = self.encode(result)
        except Exception:  # noqa: BLE001 (a result may be anything, too)
            return _refusal(result) or codec.bad_output("Unsupported model output data type.")
        processor = row.processor
        return codec.answer(
            body,
            processor.get_response_status_code(),
            processor.get_response_status_phrase() or "",
            processor.get_response_headers(),
        )

    def _run_rows(self, rows: Sequence[Row]) -> Bodies | list[Answer]:
        try:
            results = self.call(rows, self.context)
        except Exception as error:  # noqa: BLE001 (a handler may raise anything)
            return failed(error, len(rows))
        return self._bodies(results, rows) or self.answers_of(results, rows)

    def _bodies(self, results: Any, rows: Sequence[Row]) -> Bodies | None:
        """What the handler returned, if it has said nothing else about any of the answers."""
        if not isinstance(results, list) or len(results) != len(rows):
            return None
        # By the rows: a copy of the context may have been asked.
        if self.context.has_processors or any([row.has_processor for row in rows]):  # noqa: C419 (a list takes half the time)
            return None
        try:
            return Bodies(map(self.encode, results))
        except Exception:  # noqa: BLE001 (a result may be anything: the others are looked at again)
            return None


def _begin(rows: Sequence[Row], context: Context) -> None:
    context.begin_batch([row.request_id for row in rows], lambda: [row.processor for row in rows])


def taken(rows: Collection[Row]) -> list[Inputs]:
    """What they hold, which is the handler's: the context remembers rows until the next batch."""
    inputs = [row.inputs for row in rows]
    for row in rows:
        row.inputs = {}
    return inputs


def _measure(began_at: float, context: Context) -> None:
    context.metrics.add_time(PREDICTION_METRIC, round((time.perf_counter() - began_at) * 1000, 2))


def failed(error: Exception, count: int) -> list[Answer]:
    """The answers of rows whose handler raised."""
    refusal = _refusal(error)
    return [refusal] * count if refusal else codec.raised(error, count)


def load(arguments: LoadArguments) -> LoadedModel:
    """The model, ready to run; raises whatever its code raises."""
    from ts.context import Context
    from ts.metrics.metric_cache_yaml_impl import make_metrics

    os.chdir(arguments.model_dir)
    sys.path[:0] = [arguments.model_dir, *arguments.extra_paths]
    metrics = make_metrics(
        arguments.model_name, arguments.metrics_config, coalesce=not arguments.metrics_lines
    )
    context = Context(
        arguments.model_name,
        arguments.model_dir,
        arguments.manifest,
        arguments.batch_size,
        arguments.gpu_id,
        limit_max_image_pixels=arguments.limit_max_image_pixels,
        metrics=metrics,
        model_yaml_config=arguments.model_yaml,
    )
    handle = _ready_handle(arguments, context)
    lends = not arguments.envelope and _reads_views(arguments)
    return LoadedModel(handle, context, decode_input=arguments.decode_input, lends=lends)


def _reads_views(arguments: LoadArguments) -> bool:
    """Whether the handler takes bytes where they lie; that of a bare model file does."""
    return not arguments.handler or arguments.model_yaml.get("bodyViews") is True


def _ready_handle(arguments: LoadArguments, context: Context) -> Handle:
    handle = _entry_point(arguments, context)
    if context.launching is not None and not context.launching.is_all_of(handle):
        # It is called by code of the model's own, which has something to do with each batch.
        context.launching = None
    if not arguments.envelope:
        return handle
    # An envelope goes around whole batches.
    context.launching = None
    module = importlib.import_module(f"ts.torch_handler.request_envelope.{arguments.envelope}")
    enveloped: Handle = _only_class(module)(handle).handle
    return enveloped


def _entry_point(arguments: LoadArguments, context: Context) -> Handle:
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


def _only_class(module: ModuleType) -> Callable[..., Any]:
    from ts.utils.util import list_classes_from_module

    classes = list_classes_from_module(module)
    if len(classes) != 1:
        raise ValueError(
            f"the handler {module.__name__} must define a function named handle or one class; "
            f"it defines {len(classes)} classes"
        )
    return classes[0]


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
