"""Models run before they are ready: what compiles, captures or takes memory at first does it then.

With what, is said by the key `warmUp` of a model's configuration."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch

# The first pass compiles or profiles, the second records, the third is as all later ones.
PASSES = 3

DTYPES = {
    "float32": torch.float32,
    "float64": torch.float64,
    "float16": torch.float16,
    "int64": torch.int64,
    "int32": torch.int32,
    "uint8": torch.uint8,
    "bool": torch.bool,
}


class RowShape(NamedTuple):
    """One row of one input of a model."""

    shape: tuple[int, ...]
    dtype: torch.dtype

    def zeros(self, rows: int, device: torch.device) -> torch.Tensor:
        """So many rows."""
        return torch.zeros((rows, *self.shape), dtype=self.dtype, device=device)


def row_shapes(settings: Any) -> list[RowShape]:
    """What `warmUp` says: `{shape: [...], dtype: ...}`, or a list with one for each input."""
    if settings is None:
        return []
    return [_row_shape(one) for one in (settings if isinstance(settings, list) else [settings])]


def row_counts(batch_size: int) -> list[int]:
    """1, 2, 4 and so on, and the batch size."""
    powers = [1 << power for power in range(batch_size.bit_length())]
    return sorted({*powers, batch_size})


def warm(
    model: Callable[..., Any], shapes: Sequence[RowShape], batch_size: int, device: torch.device
) -> None:
    """Run the model with each number of rows, where there is anything to run it with."""
    if not shapes:
        return
    for rows in row_counts(batch_size):
        inputs = [shape.zeros(rows, device) for shape in shapes]
        with torch.inference_mode():
            for _ in range(PASSES):
                model(*inputs)


def graph_sizes(settings: Any, shapes: Sequence[RowShape], batch_size: int) -> list[int]:
    """The numbers of rows that `cudaGraphs` wants captured: a list of them, or true."""
    if settings in (None, False):
        return []
    sizes = row_counts(batch_size) if settings is True else settings
    if not isinstance(sizes, list) or not all(type(size) is int and size > 0 for size in sizes):
        raise ValueError(
            f"cudaGraphs is {settings!r}: it must be true or a list of numbers of rows"
        )
    if not shapes:
        raise ValueError("cudaGraphs needs warmUp, which says the shape that is captured")
    return sizes


def _row_shape(settings: Any) -> RowShape:
    match settings:
        case {"shape": [*shape], **rest} if all(type(size) is int and size > 0 for size in shape):
            dtype = rest.pop("dtype", "float32")
            if isinstance(dtype, str) and dtype in DTYPES and not rest:
                return RowShape(tuple(shape), DTYPES[dtype])
    raise ValueError(
        f"warmUp is {settings!r}: it must be a mapping with shape, the list of the sizes of one "
        f"row, and perhaps dtype, one of {', '.join(DTYPES)}; or a list of such mappings"
    )
