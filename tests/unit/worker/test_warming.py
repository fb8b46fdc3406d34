"""What a model is run with before it is ready."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from tsd.worker import warming
from tsd.worker.warming import RowShape

CPU = torch.device("cpu")


def test_one_input_or_several() -> None:
    one = RowShape((3, 8, 8), torch.float32)
    assert warming.row_shapes({"shape": [3, 8, 8]}) == [one]
    ids = {"shape": [16], "dtype": "int64"}
    assert warming.row_shapes([ids, {"shape": []}]) == [
        RowShape((16,), torch.int64),
        RowShape((), torch.float32),
    ]
    assert warming.row_shapes(None) == []


@pytest.mark.parametrize(
    "settings",
    [
        {},
        "yes",
        {"shape": 3},
        {"shape": [0]},
        {"shape": [True]},
        {"shape": [1.5]},
        {"shape": [3], "dtype": "complex64"},
        {"shape": [3], "dtype": ["float32"]},
        {"shape": [3], "rows": 4},
        [{"shape": [3]}, None],
    ],
)
def test_what_makes_no_sense_is_refused(settings: Any) -> None:
    with pytest.raises(ValueError, match=r"warmUp is .*it must be a mapping with shape"):
        warming.row_shapes(settings)


@pytest.mark.parametrize(
    ("batch_size", "counts"), [(1, [1]), (2, [1, 2]), (6, [1, 2, 4, 6]), (8, [1, 2, 4, 8])]
)
def test_the_numbers_of_rows_go_up_to_the_batch_size(batch_size: int, counts: list[int]) -> None:
    assert warming.row_counts(batch_size) == counts


def test_a_model_is_run_with_each_number_of_rows_until_it_is_as_later() -> None:
    seen: list[tuple[torch.Size, torch.dtype, bool]] = []

    def model(ids: torch.Tensor, mask: torch.Tensor) -> None:
        assert mask.shape == ids.shape[:1]
        seen.append((ids.shape, ids.dtype, torch.is_inference_mode_enabled()))

    shapes = [RowShape((5,), torch.int64), RowShape((), torch.bool)]
    warming.warm(model, shapes, 2, CPU)
    assert seen == [
        *[(torch.Size((1, 5)), torch.int64, True)] * 3,
        *[(torch.Size((2, 5)), torch.int64, True)] * 3,
    ]
    warming.warm(model, [], 2, CPU)
    assert len(seen) == 6, "nothing to run it with"


def test_graphs_are_of_the_numbers_that_are_asked_for() -> None:
    shapes = [RowShape((3,), torch.float32)]
    assert warming.graph_sizes(None, [], 8) == []
    assert warming.graph_sizes(settings=False, shapes=[], batch_size=8) == []
    assert warming.graph_sizes(settings=True, shapes=shapes, batch_size=8) == [1, 2, 4, 8]
    assert warming.graph_sizes([1, 32], shapes, 8) == [1, 32]


@pytest.mark.parametrize("settings", ["yes", 8, [0], [True], [2.0], {"rows": [1]}])
def test_graphs_of_no_number_are_refused(settings: Any) -> None:
    with pytest.raises(ValueError, match="must be true or a list of numbers of rows"):
        warming.graph_sizes(settings, [RowShape((3,), torch.float32)], 8)


def test_graphs_need_a_shape() -> None:
    with pytest.raises(ValueError, match="cudaGraphs needs warmUp"):
        warming.graph_sizes(settings=True, shapes=[], batch_size=8)
