"""Forward passes: what they answer, and on a GPU which of them wait for which."""

from __future__ import annotations

import gc
import weakref
from typing import Any

import numpy as np
import pytest
import torch

from tests.unit.worker.recording_gpu import RecordingGpu
from tsd.worker.gpu import Gpu
from tsd.worker.gpu_arena import DIRECT_BYTES, EXTENT_BYTES
from tsd.worker.gpu_graphs import GraphedModel
from tsd.worker.passes import CpuPasses, GpuPasses, Passes, is_row_for_row

ON_A_GPU = pytest.param(
    "cuda", marks=pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU")
)


@pytest.fixture
def gpu() -> RecordingGpu:
    return RecordingGpu()


@pytest.fixture
def passes(gpu: RecordingGpu) -> GpuPasses:
    return GpuPasses(gpu)


def triple(rows: torch.Tensor) -> torch.Tensor:
    return rows * 3


def rows_of(arena: memoryview, begin: int, count: int) -> np.ndarray:
    """Bytes of the arena as one row."""
    return np.frombuffer(arena, np.uint8, count, begin)[None]


def arena_of(size: int) -> memoryview:
    return memoryview(np.arange(size, dtype=np.uint8).tobytes())


@pytest.mark.parametrize("place", ["cpu", "stand-in", ON_A_GPU])
def test_the_rows_of_all_arrays_are_answered_in_order(place: str) -> None:
    subject: Passes = CpuPasses()
    if place != "cpu":
        device = RecordingGpu() if place == "stand-in" else Gpu(0)
        device.open()
        subject = GpuPasses(device)
    arrays = [np.array([[1.0, 2.0]]), np.array([[3.0, 4.0], [5.0, 6.0]])]
    output = subject.forward(lambda rows: {"rows": rows * 2, "first": rows[:, :1]}, arrays)
    mark = subject.mark()
    mark.synchronize()
    assert mark.query()
    assert output["rows"].tolist() == [[2, 4], [6, 8], [10, 12]]
    assert output["first"].tolist() == [[1], [3], [5]]


def test_a_lane_waits_for_what_it_needs_and_for_nothing_else(
    gpu: RecordingGpu, passes: GpuPasses
) -> None:
    passes.forward(triple, [np.zeros((2, 1))])
    passes.mark()
    assert gpu.said == [
        *("in", "pinned [2, 1]"),
        *("compute", "in before compute"),
        *("out", "compute before out", "pinned [2, 1]"),
        *("in before out", "compute before out", "mark out"),
    ]


def test_inputs_stay_until_the_device_is_done(passes: GpuPasses) -> None:
    array = np.zeros((1, 4))
    there = weakref.ref(array)
    passes.forward(triple, [array])
    mark = passes.mark()
    del array
    gc.collect()
    assert there() is not None
    mark.synchronize()
    gc.collect()
    assert there() is None


def test_what_failed_is_waited_for_too(gpu: RecordingGpu, passes: GpuPasses) -> None:
    def fail(_: torch.Tensor) -> Any:
        raise ValueError("not this shape")

    array = np.zeros((1, 4))
    there = weakref.ref(array)
    with pytest.raises(ValueError, match="not this shape"):
        passes.forward(fail, [array])
    mark = passes.mark()
    del array
    gc.collect()
    assert there() is not None, "its copy may still be under way"
    assert gpu.said[-3:] == ["in before out", "compute before out", "mark out"]
    mark.synchronize()


# The request arena.


def test_a_body_is_copied_from_where_it_lies(gpu: RecordingGpu, passes: GpuPasses) -> None:
    arena = arena_of(EXTENT_BYTES + 1)
    passes.use_arena(arena)
    first, second = rows_of(arena, 64, DIRECT_BYTES), rows_of(arena, 1, DIRECT_BYTES)
    output = passes.forward(lambda rows: rows.clone(), [first, second])
    assert np.array_equal(output.numpy(), np.concatenate([first, second]))
    assert gpu.said.count(f"pinned [2, {DIRECT_BYTES}]") == 1, "for the output alone"
    assert list(gpu.registered.values()) == [EXTENT_BYTES], "once, and only where bodies were"
    passes.close()
    assert gpu.registered == {}


def test_no_copy_crosses_from_one_registration_into_another(
    gpu: RecordingGpu, passes: GpuPasses
) -> None:
    arena = arena_of(2 * EXTENT_BYTES + 4096)
    passes.use_arena(arena)
    body = rows_of(arena, EXTENT_BYTES - 64, EXTENT_BYTES + 4096)
    output = passes.forward(lambda rows: rows.clone(), [body])
    assert np.array_equal(output.numpy(), body)
    base = np.frombuffer(arena, np.uint8).ctypes.data
    places = {address - base: size for address, size in gpu.registered.items()}
    assert places == {0: EXTENT_BYTES, EXTENT_BYTES: EXTENT_BYTES, 2 * EXTENT_BYTES: 4096}


@pytest.mark.parametrize("size", [DIRECT_BYTES - 1, DIRECT_BYTES])
def test_small_rows_go_together_in_one_copy(
    gpu: RecordingGpu, passes: GpuPasses, size: int
) -> None:
    arena = arena_of(EXTENT_BYTES)
    passes.use_arena(arena)
    passes.forward(triple, [rows_of(arena, 0, size), rows_of(arena, 0, size)])
    assert gpu.said.count(f"pinned [2, {size}]") == (2 if size < DIRECT_BYTES else 1)


def test_where_the_arena_cannot_be_pinned_bodies_are_copied_once_more(
    gpu: RecordingGpu, passes: GpuPasses, caplog: pytest.LogCaptureFixture
) -> None:
    gpu.refusal = "operation not supported"
    arena = arena_of(EXTENT_BYTES)
    passes.use_arena(arena)
    body = rows_of(arena, 0, DIRECT_BYTES)
    for _ in range(2):
        output = passes.forward(lambda rows: rows.clone(), [body])
        assert np.array_equal(output.numpy(), body)
    assert gpu.said.count(f"pinned [1, {DIRECT_BYTES}]") == 4
    assert [record.getMessage() for record in caplog.records] == [
        "the request arena cannot be pinned, bodies are copied once more: operation not supported"
    ]


def test_memory_of_the_process_is_not_the_arena(gpu: RecordingGpu, passes: GpuPasses) -> None:
    passes.use_arena(arena_of(EXTENT_BYTES))
    passes.forward(triple, [np.zeros((1, DIRECT_BYTES))])
    assert gpu.registered == {}


# Graphs.


@pytest.fixture
def graphed(gpu: RecordingGpu) -> GraphedModel:
    model = GraphedModel(triple)
    model.capture(gpu, torch.zeros(2), [1, 4])
    gpu.said.clear()
    return model


def test_graphs_are_captured_the_largest_first(gpu: RecordingGpu) -> None:
    GraphedModel(triple).capture(gpu, torch.zeros(2), [1, 4, 2])
    captured = [said for said in gpu.said if said.startswith("capture")]
    assert captured == ["capture 4", "capture 2", "capture 1"]
    before = gpu.said[: gpu.said.index("capture 4")]
    assert before == ["compute", "settle"], "run first, and nothing else runs meanwhile"


def test_fewer_rows_are_padded(gpu: RecordingGpu, graphed: GraphedModel) -> None:
    assert graphed(torch.ones(3, 2)).tolist() == [[3, 3]] * 3
    assert graphed(torch.full((1, 2), 2.0)).tolist() == [[6, 6]]
    assert gpu.said == ["replay 4", "replay 1"]


def test_an_output_stays_when_the_graph_runs_again(graphed: GraphedModel) -> None:
    first = graphed(torch.ones(4, 2))
    graphed(torch.zeros(4, 2))
    assert first.tolist() == [[3, 3]] * 4


@pytest.mark.parametrize(
    "rows",
    [torch.ones(5, 2), torch.ones(2, 3), torch.ones(2, 2, dtype=torch.float64), torch.ones(0, 2)],
)
def test_what_was_not_captured_runs_as_it_is(
    gpu: RecordingGpu, graphed: GraphedModel, rows: torch.Tensor
) -> None:
    assert torch.equal(graphed(rows), rows * 3)
    assert gpu.said == []


def test_a_model_without_rows_cannot_be_captured(gpu: RecordingGpu) -> None:
    with pytest.raises(ValueError, match="of 4 rows the model does not make 4 rows"):
        GraphedModel(torch.sum).capture(gpu, torch.zeros(2), [4])


@pytest.mark.parametrize(
    ("output", "rows", "expected"),
    [
        (torch.zeros(2, 3), 2, True),
        (torch.zeros(2, 3), 3, False),
        (torch.tensor(1.0), 1, False),
        ({"a": torch.zeros(2), "b": (torch.zeros(2),)}, 2, True),
        ([torch.zeros(2), torch.zeros(1)], 2, False),
        ([torch.zeros(2), 7], 2, False),
    ],
)
def test_rows_in_are_rows_out(output: Any, rows: int, expected: bool) -> None:  # noqa: FBT001
    assert is_row_for_row(output, rows) is expected
