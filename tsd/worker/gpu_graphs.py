"""CUDA graphs: a model captured for some numbers of rows, and replayed in one launch.

Fewer rows are padded to the next such number. More of them, or others than were captured, run
as they are."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import torch

from tsd.worker.gpu import Captured, Gpu, Lane
from tsd.worker.passes import Model, is_row_for_row, of_tensors

# Libraries choose their kernels, and take memory, in the first passes; a graph cannot hold that.
PASSES_BEFORE = 3


class GraphedModel:
    """Called as the model is, in the lane that computes."""

    def __init__(self, model: Model) -> None:
        self._model = model
        self._graphs: dict[int, tuple[torch.Tensor, Captured]] = {}

    def capture(self, gpu: Gpu, row: torch.Tensor, sizes: Sequence[int]) -> None:
        """One graph for each number of rows like `row`; ValueError for what has no rows out."""
        # The largest first: the smaller ones fit into its memory.
        for size in sorted(sizes, reverse=True):
            rows = row.expand(size, *row.shape).clone()
            with torch.inference_mode(), gpu.on(Lane.COMPUTE):
                for _ in range(PASSES_BEFORE):
                    output = self._model(rows)
            if not is_row_for_row(output, size):
                raise ValueError(f"cudaGraphs: of {size} rows the model does not make {size} rows")
            gpu.settle()
            with torch.inference_mode():
                self._graphs[size] = rows, gpu.capture(partial(self._model, rows))

    def __call__(self, rows: torch.Tensor) -> Any:
        """The output for these rows alone."""
        count = len(rows)
        size = min((size for size in self._graphs if size >= count), default=0)
        if not size or not count:
            return self._model(rows)
        static, graph = self._graphs[size]
        if static.shape[1:] != rows.shape[1:] or static.dtype != rows.dtype:
            return self._model(rows)
        # Within the device, and in the lane of the graph: the next batch may come in meanwhile.
        static[:count].copy_(rows)
        graph.replay()
        return of_tensors(lambda tensor: tensor[:count].clone(), graph.output)
