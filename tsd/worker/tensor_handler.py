"""The handler of a bare model file: tensors in, tensors out.

A request is JSON (`{"inputs": …}`, `{"instances": …}`, `{"data": …}` or just the nested list, as
float32 unless `"dtype"` names another) or raw little-endian float32, which is one row. A flat
list is one row, too; in a deeper one the first dimension counts the rows. Rows of several
requests run as one batch where their shapes agree. Answers are nested lists."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from ts.context import Context
from ts.utils.util import PredictionException

from tsd.worker import weights

INPUT_NAMES = ("inputs", "instances", "data")

DTYPES = ("float32", "float64", "float16", "int64", "int32", "uint8", "bool")


@dataclass(slots=True)
class Rows:
    """The input of one request, rows first; `is_single`: it came as one row without a batch."""

    place: int
    array: np.ndarray
    is_single: bool


class TensorHandler:
    """Runs a TorchScript, torch.export or AOTInductor file."""

    def __init__(self) -> None:
        self.model: weights.Model | None = None
        self.device = torch.device("cpu")
        # Some exported programs take one number of rows only; then requests run alone.
        self.joins_requests = True

    def initialize(self, context: Context) -> None:
        """Load the file that the manifest names."""
        gpu_id = context.system_properties["gpu_id"]
        self.device = torch.device("cpu" if gpu_id is None else f"cuda:{gpu_id}")
        file = (context.manifest or {})["model"]["serializedFile"]
        path = Path(context.system_properties["model_dir"], file)
        self.model = weights.open_model(path, self.device)

    def handle(self, data: Sequence[dict[str, Any]], _: Context) -> list[Any]:
        """An answer for each request: nested lists, or the refusal of that request alone."""
        answers: list[Any] = [None] * len(data)
        groups: dict[Any, list[Rows]] = defaultdict(list)
        for place, row in enumerate(data):
            try:
                rows = decode(place, row)
            except PredictionException as refusal:
                answers[place] = refusal
            else:
                groups[rows.array.dtype, rows.array.shape[1:]].append(rows)
        for group in groups.values():
            for rows, answer in zip(group, self._run(group), strict=True):
                answers[rows.place] = answer
        return answers

    def _run(self, group: list[Rows]) -> list[Any]:
        if len(group) == 1:
            return [self._run_alone(group[0])]
        if self.joins_requests:
            answers = self._run_joined(group)
            if answers is not None:
                return answers
        alone = [self._run_alone(rows) for rows in group]
        # Each is fine alone, so it was the joining that the model does not take.
        if not any(isinstance(answer, PredictionException) for answer in alone):
            self.joins_requests = False
        return alone

    def _run_joined(self, group: list[Rows]) -> list[Any] | None:
        """The answers of one forward pass; None when it fails or does not give row for row."""
        joined = np.concatenate([rows.array for rows in group])
        try:
            output = self._forward(joined)
        except (RuntimeError, ValueError, AssertionError) as error:
            _raise_if_out_of_memory(error)
            return None
        return _split(output, group) if _is_row_for_row(output, len(joined)) else None

    def _run_alone(self, rows: Rows) -> Any:
        try:
            output = self._forward(rows.array)
        except (RuntimeError, ValueError, AssertionError) as error:
            _raise_if_out_of_memory(error)
            return PredictionException(f"The model does not take this input: {_reason(error)}", 400)
        if rows.is_single and _is_row_for_row(output, 1):
            return _split(output, [rows])[0]
        return _lists(output)

    def _forward(self, array: np.ndarray) -> Any:
        assert self.model is not None
        with torch.inference_mode():
            return self.model(torch.from_numpy(array).to(self.device))


def decode(place: int, row: dict[str, Any]) -> Rows:
    """The rows of one request; PredictionException (400) for what is no tensor."""
    value, dtype = _value(row)
    if isinstance(value, bytes | bytearray):
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


def _is_row_for_row(output: Any, rows: int) -> bool:
    if isinstance(output, torch.Tensor):
        return output.ndim > 0 and len(output) == rows
    parts = output.values() if isinstance(output, dict) else output
    return isinstance(output, dict | list | tuple) and all(
        _is_row_for_row(part, rows) for part in parts
    )


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
