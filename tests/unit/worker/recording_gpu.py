"""A GPU that is none: says what it is told to do, and does it at once on the processor."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch

from tsd.worker.gpu import Captured, Gpu, Lane, Mark


class RecordingMark:
    """Reached when the test says so; `error`: what went wrong on the way."""

    def __init__(self) -> None:
        self.is_reached = True
        self.error: RuntimeError | None = None

    def query(self) -> bool:
        if self.error is not None:
            raise self.error
        return self.is_reached

    def synchronize(self) -> None:
        self.is_reached = True
        if self.error is not None:
            raise self.error


class RecordingGpu(Gpu):
    """`said` has the calls in order, `registered` sizes by address."""

    def __init__(self, index: int = 0) -> None:
        super().__init__(index)
        self.device = torch.device("cpu")
        self.said: list[str] = []
        self.registered: dict[int, int] = {}
        self.marks: list[RecordingMark] = []
        # What a test does with a mark before anybody else sees it.
        self.on_mark: Callable[[RecordingMark], None] = lambda _: None
        self.refusal = ""

    def open(self) -> None:
        self.said.append("open")

    @contextmanager
    def on(self, lane: Lane) -> Iterator[None]:
        self.said.append(lane.value)
        yield

    def follow(self, first: Lane, then: Lane) -> None:
        self.said.append(f"{first.value} before {then.value}")

    def mark(self, lane: Lane) -> Mark:
        self.said.append(f"mark {lane.value}")
        self.marks.append(RecordingMark())
        self.on_mark(self.marks[-1])
        return self.marks[-1]

    def settle(self) -> None:
        self.said.append("settle")

    def pinned(self, shape: Sequence[int], dtype: torch.dtype) -> torch.Tensor:
        self.said.append(f"pinned {list(shape)}")
        return torch.empty(tuple(shape), dtype=dtype)

    def register(self, address: int, size: int) -> None:
        if self.refusal:
            raise RuntimeError(self.refusal)
        self.registered[address] = size

    def unregister(self, address: int) -> None:
        del self.registered[address]

    def capture(self, run: Callable[[], Any]) -> Captured:
        output = run()
        self.said.append(f"capture {len(output)}")

        def replay() -> None:
            self.said.append(f"replay {len(output)}")
            with torch.inference_mode():
                output.copy_(run())

        return Captured(replay, output)
