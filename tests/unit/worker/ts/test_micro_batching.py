"""A batch in pieces gives what the plain handler gives, while its steps overlap."""

import threading
from pathlib import Path
from typing import Any

import pytest
import torch
from ts.handler_utils.micro_batching import MicroBatching
from ts.torch_handler.base_handler import BaseHandler
from ts.utils.util import PredictionException

from tests.unit.worker.ts.contexts import asked, context_of


class Doubler(BaseHandler):
    """Doubles numbers; keeps which piece each step worked on."""

    def __init__(self) -> None:
        super().__init__()
        self.device = torch.device("cpu")
        self.model = lambda rows: rows * 2
        self.seen: list[tuple[str, int | None]] = []

    def preprocess(self, data: Any) -> Any:
        self.note("preprocess")
        if any(row["body"] == "bad" for row in data):
            raise PredictionException("bad row", 422)
        return super().preprocess([row["body"] for row in data])

    def inference(self, data: Any, *args: Any, **kwargs: Any) -> Any:
        self.note("inference")
        return super().inference(data)

    def note(self, step: str) -> None:
        if isinstance(self.handle, MicroBatching):
            self.seen.append((step, self.handle.get_micro_batch_idx()))

    def describe_handle(self) -> Any:
        return "described"

    def get_insights(self, tensor_data: Any, inputs: Any, target: Any = 0) -> Any:
        return [tensor_data.tolist()]


def rows(*values: Any) -> list[dict[str, Any]]:
    return [{"body": value} for value in values]


@pytest.mark.parametrize("size", [1, 2, 3, 7, 20])
@pytest.mark.parametrize("threads", [1, 3])
def test_the_results_are_those_of_the_plain_handler_in_order(size: int, threads: int) -> None:
    context, data = context_of(Path()), rows(*range(17))
    plain = Doubler().handle(data, context)
    steps = {"preprocess": threads, "inference": threads, "postprocess": threads}
    pieces = MicroBatching(Doubler(), size, steps)
    assert pieces(data, context) == plain
    assert pieces([], context) == []
    pieces.shutdown()


def test_a_step_knows_its_piece() -> None:
    handler = Doubler()
    pieces = handler.handle = MicroBatching(handler, 2)  # type: ignore[method-assign]
    pieces(rows(1, 2, 3), context_of(Path()))
    assert sorted(handler.seen) == [
        ("inference", 0),
        ("inference", 1),
        ("preprocess", 0),
        ("preprocess", 1),
    ]
    assert pieces.get_micro_batch_idx() is None
    pieces.shutdown()


class Meeting(Doubler):
    """Its steps wait for each other: the model for the preparation of the next piece."""

    def __init__(self) -> None:
        super().__init__()
        self.met = threading.Barrier(2, timeout=30)
        self.prepared = 0

    def preprocess(self, data: Any) -> Any:
        self.prepared += 1
        if self.prepared == 2:
            self.met.wait()
        return super().preprocess(data)

    def inference(self, data: Any, *args: Any, **kwargs: Any) -> Any:
        if not self.met.broken and data.tolist() == [1]:
            self.met.wait()
        return super().inference(data)


def test_a_piece_is_prepared_while_the_one_before_is_in_the_model() -> None:
    pieces = MicroBatching(Meeting(), 1)
    assert pieces(rows(1, 2), context_of(Path())) == [2, 4]
    pieces.shutdown()


def test_an_error_of_a_piece_is_the_batchs_and_the_next_batch_is_served() -> None:
    context, pieces = context_of(Path()), MicroBatching(Doubler(), 1)
    with pytest.raises(PredictionException, match="bad row"):
        pieces(rows(1, "bad", 3), context)
    assert pieces(rows(1), context) == [2]
    pieces.shutdown()


def test_descriptions_and_explanations_come_from_the_handler() -> None:
    context, pieces = context_of(Path()), MicroBatching(Doubler(), 1)
    assert pieces(rows(1), asked(context, describe="True")) == ["described"]
    assert pieces(rows(1, 2), asked(context, explain="True")) == [[1, 2]]
    pieces.shutdown()


def test_the_number_of_threads_may_change() -> None:
    pieces = MicroBatching(Doubler(), 1, {"inference": 2})
    pieces.parallelism = {"preprocess": 4}
    assert pieces.parallelism == {"inference": 2, "preprocess": 4}
    pieces.parallelism["inference"] = 99
    assert pieces.parallelism["inference"] == 2
    assert pieces(rows(1, 2, 3), context_of(Path())) == [2, 4, 6]
    pieces.shutdown()


@pytest.mark.parametrize("parallelism", [{"training": 1}, {"inference": 0}])
def test_what_is_no_number_of_threads_is_refused(parallelism: dict[str, int]) -> None:
    with pytest.raises(ValueError, match="no step with 1 thread or more"):
        MicroBatching(Doubler(), 1, parallelism)
    with pytest.raises(ValueError, match="must be 1 or more"):
        MicroBatching(Doubler(), 0)
