"""What a model's file says of devices and processes; what makes no sense counts as not said."""

from __future__ import annotations

from typing import Any

import pytest

from tsd.errors import InvalidArchive
from tsd.models import placement
from tsd.models.placement import Parallel


@pytest.mark.parametrize(
    ("said", "expected"), [("cpu", "cpu"), ("GPU", "gpu"), ("neuron", ""), (1, ""), (None, "")]
)
def test_a_device_type_is_cpu_or_gpu(said: object, expected: str) -> None:
    assert placement.device_type({"deviceType": said}) == expected


@pytest.mark.parametrize(
    ("said", "expected"),
    [([1, 0, 1], (1, 0, 1)), ([0, "1"], ()), ([True], ()), ("0", ()), (None, ()), ([], ())],
)
def test_device_ids_are_whole_numbers_or_none(said: object, expected: tuple[int, ...]) -> None:
    assert placement.device_ids({"deviceIds": said}) == expected


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        ({}, Parallel()),
        ({"parallelLevel": 2}, Parallel()),
        ({"parallelType": "tp"}, Parallel()),
        ({"parallelType": "2d", "parallelLevel": 2}, Parallel()),
        ({"parallelType": "custom", "parallelLevel": 4}, Parallel("custom", 4)),
        ({"parallelType": "custom", "parallelLevel": "4"}, Parallel()),
        ({"parallelType": "PP", "torchrun": {"nproc-per-node": 3}}, Parallel("pp", 3)),
        ({"parallelType": "tp", "torchrun": {"nproc-per-node": "gpu"}}, Parallel("tp", 1)),
        ({"parallelType": "tp", "torchrun": 2, "parallelLevel": 2}, Parallel("tp", 2)),
        (
            {"parallelType": "pptp", "torchrun": {"nproc-per-node": 2, "OMP_NUMBER_THREADS": 4}},
            Parallel("pptp", 2, threads=4),
        ),
    ],
)
def test_a_division_needs_a_kind_and_a_level(said: dict[str, Any], expected: Parallel) -> None:
    assert placement.parallel(said) == expected


def test_only_pp_and_tp_make_ranks() -> None:
    assert Parallel("custom", 4).ranks == 0
    assert Parallel("pptp", 4).ranks == 4
    assert Parallel("tp", 1).ranks == 1


def test_what_would_need_another_machine_is_refused() -> None:
    with pytest.raises(InvalidArchive, match="nnodes"):
        placement.parallel({"parallelType": "tp", "torchrun": {"nnodes": 2, "nproc-per-node": 2}})


@pytest.mark.parametrize("mode", ["continuous", "async"])
def test_ranks_do_not_overlap_jobs_and_a_custom_division_may(mode: str) -> None:
    with pytest.raises(InvalidArchive, match="does not go with"):
        placement.check_parallel(Parallel("tp", 2), mode, 8)
    placement.check_parallel(Parallel("custom", 2), mode, 8)


def test_the_ranks_of_a_worker_are_bounded() -> None:
    placement.check_parallel(Parallel("tp", 8), "batch", 8)
    with pytest.raises(InvalidArchive, match="9 processes"):
        placement.check_parallel(Parallel("tp", 9), "batch", 8)
