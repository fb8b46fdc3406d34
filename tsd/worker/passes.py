"""Forward passes of a model over the rows of requests, on a processor or on a GPU.

On a GPU the rows of one batch are copied in while another one is computed; an output is on its
way when `forward` returns, and there when the batch's mark is reached."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol

import numpy as np
import torch

from tsd.worker.gpu import Gpu, Lane, Mark
from tsd.worker.gpu_arena import PinnedArena

Model = Callable[..., Any]
Arrays = Sequence[np.ndarray]


class Passes(Protocol):
    """Where a model runs."""

    def forward(self, model: Model, arrays: Arrays) -> Any:
        """The output for the rows of all arrays, in this machine's memory."""

    def mark(self) -> Mark:
        """The end of all passes since the last mark."""

    def use_arena(self, arena: memoryview) -> None:
        """Bodies lie there: copy them from where they are."""

    def close(self) -> None:
        """Let go of the arena; all marks must have been reached."""


class Reached:
    """The mark of what is done when it is asked for."""

    def query(self) -> bool:
        """True."""
        return True

    def synchronize(self) -> None:
        """Nothing to wait for."""


class CpuPasses:
    """One pass after the other."""

    def forward(self, model: Model, arrays: Arrays) -> Any:
        """The output."""
        # What lies in the arena is copied: a model may write to its input.
        is_own = len(arrays) == 1 and arrays[0].flags.writeable
        rows = arrays[0] if is_own else np.concatenate(arrays)
        with torch.inference_mode():
            return model(torch.from_numpy(rows))

    def mark(self) -> Mark:
        """Reached."""
        return Reached()

    def use_arena(self, arena: memoryview) -> None:
        """Rows are read where they lie."""

    def close(self) -> None:
        """Nothing to let go of."""


class Flight:
    """What must stay where it is until the device is done with it."""

    def __init__(self, mark: Mark, held: list[Any]) -> None:
        self._mark = mark
        self._held = held

    def query(self) -> bool:
        """Whether the device is done."""
        return self._mark.query()

    def synchronize(self) -> None:
        """Wait for the device."""
        self._mark.synchronize()
        self._held.clear()


class GpuPasses:
    """Passes in three lanes: rows in, the model, outputs out."""

    def __init__(self, gpu: Gpu) -> None:
        self._gpu = gpu
        self._arena: PinnedArena | None = None
        self._held: list[Any] = []

    def use_arena(self, arena: memoryview) -> None:
        """Bodies lie there: copy them from where they are."""
        self._arena = PinnedArena(self._gpu, arena)

    def close(self) -> None:
        """Let go of the arena; all marks must have been reached."""
        if self._arena is not None:
            self._arena.close()

    def forward(self, model: Model, arrays: Arrays) -> Any:
        """The output, on its way."""
        gpu = self._gpu
        with torch.inference_mode():
            with gpu.on(Lane.IN):
                rows = self._copied_in(arrays)
            # Held before anything can fail: the copy is under way.
            self._held += [rows, *arrays]
            with gpu.on(Lane.COMPUTE):
                gpu.follow(Lane.IN, Lane.COMPUTE)
                output = model(rows)
            self._held.append(output)
            with gpu.on(Lane.OUT):
                gpu.follow(Lane.COMPUTE, Lane.OUT)
                return of_tensors(self._copied_out, output)

    def mark(self) -> Mark:
        """Reached when the outputs are there, and nothing reads the inputs any more."""
        self._gpu.follow(Lane.IN, Lane.OUT)
        self._gpu.follow(Lane.COMPUTE, Lane.OUT)
        held, self._held = self._held, []
        return Flight(self._gpu.mark(Lane.OUT), held)

    def _copied_in(self, arrays: Arrays) -> torch.Tensor:
        shape = (sum(map(len, arrays)), *arrays[0].shape[1:])
        dtype = torch.from_numpy(np.empty(0, arrays[0].dtype)).dtype
        rows = torch.empty(shape, dtype=dtype, device=self._gpu.device)
        if (pieces := self._pinned_pieces(arrays)) is not None:
            room = torch.split(rows.view(-1).view(torch.uint8), [len(piece) for piece in pieces])
            for target, piece in zip(room, pieces, strict=True):
                target.copy_(piece, non_blocking=True)
            return rows
        staging = self._gpu.pinned(shape, dtype)
        np.concatenate(arrays, out=staging.numpy())
        return rows.copy_(staging, non_blocking=True)

    def _pinned_pieces(self, arrays: Arrays) -> list[torch.Tensor] | None:
        """All bytes of the arrays, where all can be copied from where they are."""
        if self._arena is None:
            return None
        found: list[torch.Tensor] = []
        for array in arrays:
            pieces = self._arena.pieces(array)
            if pieces is None:
                return None
            found += pieces
        return found

    def _copied_out(self, tensor: torch.Tensor) -> torch.Tensor:
        return self._gpu.pinned(tensor.shape, tensor.dtype).copy_(tensor, non_blocking=True)


def of_tensors(change: Callable[[torch.Tensor], Any], output: Any) -> Any:
    """The output with each of its tensors changed; what is no tensor stays."""
    if isinstance(output, torch.Tensor):
        return change(output)
    if isinstance(output, dict):
        return {name: of_tensors(change, part) for name, part in output.items()}
    if isinstance(output, list | tuple):
        return [of_tensors(change, part) for part in output]
    return output


def is_row_for_row(output: Any, rows: int) -> bool:
    """Whether each tensor of the output has that many rows, and there is nothing else."""
    if isinstance(output, torch.Tensor):
        return output.ndim > 0 and len(output) == rows
    parts = output.values() if isinstance(output, dict) else output
    return isinstance(output, dict | list | tuple) and all(
        is_row_for_row(part, rows) for part in parts
    )
