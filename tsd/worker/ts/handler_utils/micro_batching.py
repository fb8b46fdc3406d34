"""A batch in pieces: while one is in the model, the next is prepared and the last is finished."""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from typing import Any

from ts.torch_handler.base_handler import BaseHandler

HANDLER_METHODS = ("preprocess", "inference", "postprocess")


class MicroBatching:
    """Takes the place of a handler's `handle`: `self.handle = MicroBatching(self, 4)`.

    `parallelism` gives each step its number of threads, one where it says nothing."""

    def __init__(
        self,
        parent_handler: BaseHandler,
        micro_batch_size: int = 1,
        parallelism: Mapping[str, int] | None = None,
    ) -> None:
        if micro_batch_size < 1:
            raise ValueError(f"micro_batch_size is {micro_batch_size}, it must be 1 or more")
        self.handler = parent_handler
        self.micro_batch_size = micro_batch_size
        self._parallelism: dict[str, int] = {}
        self._pools: dict[str, ThreadPoolExecutor] = {}
        self._thread = threading.local()
        self.parallelism = dict(parallelism or {})

    def __call__(self, data: Any, context: Any) -> Any:
        """One batch: described and explained as the handler does it, predicted in pieces."""
        return self.handler._handle_with(data, context, self.handle)  # noqa: SLF001 (its other half)

    @property
    def parallelism(self) -> dict[str, int]:
        """How many threads each step was given; a copy."""
        return dict(self._parallelism)

    @parallelism.setter
    def parallelism(self, parallelism: Mapping[str, int]) -> None:
        for step, threads in parallelism.items():
            if step not in HANDLER_METHODS or threads < 1:
                raise ValueError(f"parallelism {step}: {threads} is no step with 1 thread or more")
        self._parallelism.update(parallelism)
        self.shutdown()
        self._pools = {
            step: ThreadPoolExecutor(self._parallelism.get(step, 1), f"micro-{step}")
            for step in HANDLER_METHODS
        }

    def handle(self, data: Sequence[Any]) -> list[Any]:
        """The results of all rows, in order; the first error of a piece, when all have ended."""
        size = self.micro_batch_size
        pieces = [data[begin : begin + size] for begin in range(0, len(data), size)]
        results = [self._started(index, piece) for index, piece in enumerate(pieces)]
        # A piece that still ran would read the context of the batch after this one.
        wait(results)
        return [row for result in results for row in result.result()]

    def shutdown(self) -> None:
        """End the threads."""
        for pool in self._pools.values():
            pool.shutdown()

    def get_micro_batch_idx(self) -> int | None:
        """Which piece of the batch the calling step works on; None outside of the steps."""
        return getattr(self._thread, "micro_batch_idx", None)

    def _started(self, index: int, piece: Any) -> Future[Any]:
        """The last step of a piece, which waits for the steps before it.

        Pieces enter each pool in order, so whoever waits, waits for one that already runs."""
        given: Future[Any] = Future()
        given.set_result(piece)
        for step in HANDLER_METHODS:
            given = self._pools[step].submit(self._run, step, index, given)
        return given

    def _run(self, step: str, index: int, given: Future[Any]) -> Any:
        self._thread.micro_batch_idx = index
        return getattr(self.handler, step)(given.result())
