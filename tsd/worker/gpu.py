"""torch's CUDA as far as a worker calls it: lanes, pinned memory, graphs, figures.

All such calls stand here; what is built on them runs in tests without a GPU. A worker has one
context, on its own device; the fork server has none, so nothing here runs before the fork."""

from __future__ import annotations

import contextlib
import enum
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from typing import Any, NamedTuple, Protocol

import torch

# cuda_runtime_api.h: the workers' mapping of the request arena cannot be written.
REGISTER_READ_ONLY = 0x08

# Half of it has no annotations.
cuda: Any = torch.cuda


class Lane(enum.Enum):
    """What a GPU does at the same time; within a lane one thing follows another."""

    IN = "in"
    COMPUTE = "compute"
    OUT = "out"


class Mark(Protocol):
    """A point in a lane."""

    def query(self) -> bool:
        """Whether it has been reached."""

    def synchronize(self) -> None:
        """Wait for it; raises what went wrong on the way."""


class Captured(NamedTuple):
    """A graph: `replay` computes `output` anew, in place."""

    replay: Callable[[], None]
    output: Any


class GpuMemory(NamedTuple):
    """Bytes of one process: in tensors, and taken from the driver for them."""

    allocated: int
    reserved: int


class Gpu:
    """One device. Nothing but its number until `open`."""

    def __init__(self, index: int) -> None:
        self.device = torch.device("cuda", index)
        self._lanes: dict[Lane, Any] = {}
        self._graph_pool: Any = None

    def open(self) -> None:
        """Make the process's context on this device, and the lanes."""
        cuda.set_device(self.device)
        self._lanes = {lane: cuda.Stream(self.device) for lane in Lane}

    def on(self, lane: Lane) -> AbstractContextManager[Any]:
        """What is launched within goes to this lane."""
        lane_entered: AbstractContextManager[Any] = cuda.stream(self._lanes[lane])
        return lane_entered

    def follow(self, first: Lane, then: Lane) -> None:
        """What comes in `then` waits for all that is in `first` now."""
        self._lanes[then].wait_stream(self._lanes[first])

    def mark(self, lane: Lane) -> Mark:
        """The point that the lane has reached when all that is in it now is done."""
        # Blocking: who waits sleeps, instead of taking a core from the other workers.
        event = cuda.Event(blocking=True)
        event.record(self._lanes[lane])
        reached: Mark = event
        return reached

    def settle(self) -> None:
        """Wait until nothing runs."""
        cuda.synchronize(self.device)

    def pinned(self, shape: Sequence[int], dtype: torch.dtype) -> torch.Tensor:
        """Memory of this machine that the device copies from and to by itself."""
        return torch.empty(tuple(shape), dtype=dtype, pin_memory=True)

    def register(self, address: int, size: int) -> None:
        """Pin memory that is only mapped to be read; RuntimeError where the driver cannot."""
        try:
            cuda.check_error(cuda.cudart().cudaHostRegister(address, size, REGISTER_READ_ONLY))
        except RuntimeError:
            # The runtime library remembers the error and torch would raise it at its next kernel:
            # let that one be here.
            with contextlib.suppress(RuntimeError):
                torch.zeros(1, device=self.device)
            raise

    def unregister(self, address: int) -> None:
        """Pinned no more."""
        cuda.cudart().cudaHostUnregister(address)

    def capture(self, run: Callable[[], Any]) -> Captured:
        """What `run` launches, as one graph; all graphs of the device share their memory."""
        if self._graph_pool is None:
            self._graph_pool = cuda.graph_pool_handle()
        graph = cuda.CUDAGraph()
        with cuda.graph(graph, pool=self._graph_pool, stream=self._lanes[Lane.COMPUTE]):
            output = run()
        return Captured(graph.replay, output)


def memory() -> GpuMemory | None:
    """What this process holds on all its GPUs; None as long as it has touched none."""
    if not cuda.is_initialized():
        return None
    figures = [cuda.memory_stats(index) for index in range(cuda.device_count())]
    return GpuMemory(
        sum(one.get("allocated_bytes.all.current", 0) for one in figures),
        sum(one.get("reserved_bytes.all.current", 0) for one in figures),
    )
