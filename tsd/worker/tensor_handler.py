"""The handler of a bare model file: tensors in, tensors out.

A request is JSON (`{"inputs": …}`, `{"instances": …}`, `{"data": …}` or just the nested list, as
float32 unless `"dtype"` names another) or raw little-endian float32, which is one row. A flat
list is one row, too; in a deeper one the first dimension counts the rows. Rows of several
requests run as one batch where their shapes agree. Answers are nested lists. On a GPU a batch is
launched while the one before it still runs: ahead.py."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from ts.context import Context
from ts.torch_handler.compiling import compiled_and_warm
from ts.utils.util import PredictionException

from tsd.worker import warming, weights
from tsd.worker.gpu import Gpu, Mark
from tsd.worker.gpu_graphs import GraphedModel
from tsd.worker.passes import CpuPasses, GpuPasses, Passes, is_row_for_row
from tsd.worker.warming import RowShape

INPUT_NAMES = ("inputs", "instances", "data")

DTYPES = tuple(warming.DTYPES)


@dataclass(slots=True)
class Rows:
    """The input of one request, rows first; `is_single`: it came as one row without a batch."""

    place: int
    array: np.ndarray
    is_single: bool


@dataclass(slots=True)
class Pass:
    """Rows that ran together, and their output; in its place the refusal of a single request."""

    group: list[Rows]
    output: Any
    has_rows: bool

    def answers(self) -> list[Any]:
        """One for each request."""
        return _split(self.output, self.group) if self.has_rows else [_lists(self.output)]


@dataclass(slots=True)
class Launched:
    """A batch whose passes have begun; `answers` has the refusals."""

    answers: list[Any]
    passes: list[Pass]
    mark: Mark

    def finish(self) -> list[Any]:
        """Wait for the outputs: an answer for each request."""
        self.mark.synchronize()
        for one in self.passes:
            for rows, answer in zip(one.group, one.answers(), strict=True):
                self.answers[rows.place] = answer
        return self.answers


class TensorHandler:
    """Runs a TorchScript, torch.export or AOTInductor file."""

    def __init__(self, find_gpu: Callable[[int], Gpu] = Gpu) -> None:
        self.model: weights.Model | None = None
        self.passes: Passes = CpuPasses()
        # Some exported programs take one number of rows only; then requests run alone.
        self.joins_requests = True
        self._find_gpu = find_gpu

    def initialize(self, context: Context) -> None:
        """Load the file that the manifest names; compile, run and capture it as is asked for."""
        properties, yaml = context.system_properties, context.model_yaml_config
        device, gpu = torch.device("cpu"), None
        if properties["gpu_id"] is not None:
            gpu = self._find_gpu(properties["gpu_id"])
            gpu.open()
            device, self.passes, context.launching = gpu.device, GpuPasses(gpu), self
        path = Path(properties["model_dir"], (context.manifest or {})["model"]["serializedFile"])
        shapes, batch_size = warming.row_shapes(yaml.get("warmUp")), properties["batch_size"]
        warm = partial(self._warm, shapes, batch_size)
        model = weights.open_model(path, device)
        self.model = compiled_and_warm(model, yaml.get("pt2"), device, warm)
        sizes = warming.graph_sizes(yaml.get("cudaGraphs"), shapes, batch_size)
        if gpu is not None and sizes:
            graphed = GraphedModel(self.model)
            graphed.capture(gpu, shapes[0].zeros(1, device)[0], sizes)
            self.model = graphed

    def handle(self, data: Sequence[dict[str, Any]], _: Context) -> list[Any]:
        """An answer for each request: nested lists, or the refusal of that request alone."""
        return self.launch(data).finish()

    def is_all_of(self, handle: Callable[..., Any]) -> bool:
        """Whether to call `handle` is to launch a batch and finish it, and nothing else."""
        return handle == self.handle and type(self).handle is TensorHandler.handle

    def launch(self, data: Sequence[dict[str, Any]]) -> Launched:
        """Begin a batch; on a GPU it is under way when this returns."""
        answers: list[Any] = [None] * len(data)
        groups: dict[Any, list[Rows]] = defaultdict(list)
        for place, row in enumerate(data):
            try:
                rows = decode(place, row)
            except PredictionException as refusal:
                answers[place] = refusal
            else:
                groups[rows.array.dtype, rows.array.shape[1:]].append(rows)
        passes = [one for group in groups.values() for one in self._launch(group)]
        return Launched(answers, passes, self.passes.mark())

    def _launch(self, group: list[Rows]) -> list[Pass]:
        if len(group) > 1 and self.joins_requests:
            joined = self._launch_joined(group)
            if joined is not None:
                return [joined]
        alone = [self._launch_alone(rows) for rows in group]
        # Each is fine alone, so it was the joining that the model does not take.
        if len(group) > 1 and not any(isinstance(o.output, PredictionException) for o in alone):
            self.joins_requests = False
        return alone

    def _launch_joined(self, group: list[Rows]) -> Pass | None:
        """One forward pass; None when it fails or does not give row for row."""
        try:
            output = self._forward([rows.array for rows in group])
        except (RuntimeError, ValueError, AssertionError) as error:
            _raise_if_out_of_memory(error)
            return None
        count = sum(len(rows.array) for rows in group)
        return Pass(group, output, has_rows=True) if is_row_for_row(output, count) else None

    def _launch_alone(self, rows: Rows) -> Pass:
        try:
            output = self._forward([rows.array])
        except (RuntimeError, ValueError, AssertionError) as error:
            _raise_if_out_of_memory(error)
            text = f"The model does not take this input: {_reason(error)}"
            return Pass([rows], PredictionException(text, 400), has_rows=False)
        return Pass([rows], output, has_rows=rows.is_single and is_row_for_row(output, 1))

    def _forward(self, arrays: Sequence[np.ndarray]) -> Any:
        assert self.model is not None
        return self.passes.forward(self.model, arrays)

    def _warm(self, shapes: Sequence[RowShape], batch_size: int, model: weights.Model) -> None:
        if len(shapes) > 1:
            raise ValueError("warmUp: a model without a handler of its own takes one input")

        def run(rows: torch.Tensor) -> None:
            self.passes.forward(model, [rows.numpy()])
            self.passes.mark().synchronize()

        warming.warm(run, shapes, batch_size, torch.device("cpu"))


def decode(place: int, row: dict[str, Any]) -> Rows:
    """The rows of one request; PredictionException (400) for what is no tensor."""
    value, dtype = _value(row)
    if isinstance(value, bytes | bytearray | memoryview):
        if not value or len(value) % 4:
            raise PredictionException(f"{len(value)} bytes are no array of float32", 400)
        return Rows(place, np.frombuffer(value, dtype="<f4")[None], is_single=True)
    try:
        array = np.array(value, dtype=dtype)
    except (ValueError, TypeError, OverflowError) as error:
        raise PredictionException(f"The input is no tensor: {error}", 400) from error
    if array.ndim == 0:
        # Without a Content-Type, or with the one that curl sends, JSON is not read.
        hint = "is the Content-Type application/json?"
        raise PredictionException(f"The input is no list of numbers ({hint})", 400)
    is_single = array.ndim == 1
    return Rows(place, array[None] if is_single else array, is_single)


def _value(row: dict[str, Any]) -> tuple[Any, str]:
    """What the request holds, and the data type it asks for."""
    content = row.get("body", row.get("data"))
    if not isinstance(content, dict):
        return content, "float32"
    dtype = content.get("dtype", "float32")
    if dtype not in DTYPES:
        raise PredictionException(f"dtype is none of {', '.join(DTYPES)}", 400)
    for name in INPUT_NAMES:
        if name in content:
            return content[name], dtype
    raise PredictionException(f"The input has none of {', '.join(INPUT_NAMES)}", 400)


def _split(output: Any, group: Sequence[Rows]) -> list[Any]:
    """For each request its rows of the output; dicts and tuples keep their form."""
    if isinstance(output, dict):
        parts = [_split(part, group) for part in output.values()]
        return [dict(zip(output, row, strict=True)) for row in zip(*parts, strict=True)]
    if isinstance(output, list | tuple):
        parts = [_split(part, group) for part in output]
        return [list(row) for row in zip(*parts, strict=True)]
    # One copy off the device and one walk for all requests; slices of lists cost nothing.
    values, answers, begin = output.tolist(), [], 0
    for rows in group:
        end = begin + len(rows.array)
        answers.append(values[begin] if rows.is_single else values[begin:end])
        begin = end
    return answers


def _lists(output: Any) -> Any:
    """The whole output as lists, for an output that has no rows."""
    if isinstance(output, torch.Tensor):
        return output.tolist()
    if isinstance(output, dict):
        return {name: _lists(part) for name, part in output.items()}
    if isinstance(output, list | tuple):
        return [_lists(part) for part in output]
    return output


def _reason(error: Exception) -> str:
    """What a model's error says in one line, without the stack that compiled models print."""
    *stack, last = str(error).strip().split("\n")
    is_line = not stack or last.startswith("RuntimeError: ")
    return last.removeprefix("RuntimeError: ") if is_line else "shape or data type do not fit"


def _raise_if_out_of_memory(error: Exception) -> None:
    if isinstance(error, torch.OutOfMemoryError) or "CUDA" in str(error):
        raise error
