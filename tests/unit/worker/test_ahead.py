"""Batches that overlap on a GPU: how many, in which order, and what becomes of failures."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from ts.context import Context

from tests.unit.worker.channel import FakeChannel, SentJob, batch, job
from tests.unit.worker.recording_gpu import RecordingGpu, RecordingMark
from tests.unit.worker.ts.contexts import context_of
from tsd.ipc.layout import NoticeKind, Outcome, pack_notice
from tsd.worker.ahead import AheadRunner
from tsd.worker.loader import LoadedModel
from tsd.worker.outbox import Outbox
from tsd.worker.tensor_handler import TensorHandler

JSON = b"content-type\0application/json"
STOP = pack_notice(NoticeKind.STOP)


class Doubled(torch.nn.Module):
    """Rows times two; not for three columns."""

    def forward(self, rows: torch.Tensor) -> torch.Tensor:
        """Raises RuntimeError for three columns."""
        return rows * torch.full((1, 2), 2.0)


@pytest.fixture
def gpu() -> RecordingGpu:
    return RecordingGpu()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """With an exported program in it."""
    shapes = {"rows": {0: torch.export.Dim("batch", min=1, max=64)}}
    program = torch.export.export(Doubled(), (torch.ones(3, 2),), dynamic_shapes=shapes)
    torch.export.save(program, tmp_path / "m.pt2")
    return tmp_path


def context_on_gpu(folder: Path, **yaml: object) -> Context:
    context = context_of(folder, {"serializedFile": "m.pt2"}, **yaml)
    context.system_properties["gpu_id"] = 0
    return context


Load = Callable[..., LoadedModel]


@pytest.fixture
def load(folder: Path, gpu: RecordingGpu) -> Load:
    def load_it(**yaml: object) -> LoadedModel:
        context, handler = context_on_gpu(folder, **yaml), TensorHandler(lambda _: gpu)
        handler.initialize(context)
        return LoadedModel(handler.handle, context)

    return load_it


def asking(number: int, rows: object) -> SentJob:
    return job(number, json.dumps(rows).encode(), JSON)


def of(number: int) -> bytes:
    """A batch of one job, both of that number."""
    return batch(asking(number, [number, 0]), batch_id=number)


def serve(model: LoadedModel, channel: FakeChannel) -> None:
    arena = memoryview(bytes(4096))
    AheadRunner(Outbox(channel.as_socket(), memoryview(b""), 1 << 20), arena, model).serve()


def answered(channel: FakeChannel) -> list[tuple[int, object]]:
    """Batches and what was answered, in order."""
    return [(header.batch_id, json.loads(bytes(one.body))) for header, one in channel.answers()]


def test_the_next_batch_is_launched_before_the_first_is_answered(
    load: Load, gpu: RecordingGpu
) -> None:
    channel = FakeChannel(*[of(number) for number in (1, 2, 3, 4)], STOP)
    answered_before: list[int] = []

    def take_long(mark: RecordingMark) -> None:
        mark.is_reached = False
        answered_before.append(len(channel.answers()))

    gpu.on_mark = take_long
    serve(load(), channel)
    assert answered(channel) == [(number, [number * 2, 0]) for number in (1, 2, 3, 4)]
    assert answered_before == [0, 0, 1, 2]


def test_what_is_done_is_answered_before_more_is_taken(load: Load, gpu: RecordingGpu) -> None:
    channel = FakeChannel(of(1), of(2), STOP)
    serve(load(), channel)
    assert answered(channel) == [(1, [2, 0]), (2, [4, 0])]
    assert len(gpu.marks) == 2


def test_when_the_daemon_is_gone_nobody_is_answered(load: Load, gpu: RecordingGpu) -> None:
    def take_long(mark: RecordingMark) -> None:
        mark.is_reached = False

    gpu.on_mark = take_long
    channel = FakeChannel(of(1), b"")
    serve(load(), channel)
    assert channel.answers() == []


def test_one_job_may_be_refused_and_the_others_not(load: Load) -> None:
    jobs = [asking(1, [1, 2, 3]), asking(2, [1, 2]), asking(3, "text"), asking(4, [[3, 4]])]
    broken = job(5, b"--", b"content-type\0multipart/form-data; boundary=b")
    channel = FakeChannel(batch(*jobs, broken, batch_id=7), STOP)
    serve(load(), channel)
    outcomes = [(one.job_id, one.outcome) for _, one in channel.answers()]
    assert outcomes == [
        (1, Outcome.REFUSED),
        (2, Outcome.OK),
        (3, Outcome.REFUSED),
        (4, Outcome.OK),
        (5, Outcome.REFUSED),
    ]


def test_a_launch_that_fails_fails_its_own_batch(load: Load) -> None:
    model, channel = load(), FakeChannel(of(1), of(2), STOP)
    handler = model.context.launching
    own, calls = handler.model, iter([torch.OutOfMemoryError("CUDA out of memory")])

    def once(rows: torch.Tensor) -> object:
        for error in calls:
            raise error
        return own(rows)

    handler.model = once
    serve(model, channel)
    outcomes = [(header.batch_id, one.outcome) for header, one in channel.answers()]
    assert outcomes == [(1, Outcome.OUT_OF_MEMORY), (2, Outcome.OK)]


def test_what_fails_on_the_device_fails_its_own_batch(load: Load, gpu: RecordingGpu) -> None:
    def fail_once(mark: RecordingMark) -> None:
        if len(gpu.marks) == 1:
            mark.error = RuntimeError("CUDA error: device-side assert triggered")

    gpu.on_mark = fail_once
    channel = FakeChannel(of(1), of(2), STOP)
    serve(load(), channel)
    outcomes = [(header.batch_id, one.outcome) for header, one in channel.answers()]
    assert outcomes == [(1, Outcome.OUT_OF_MEMORY), (2, Outcome.OK)]


# What the handler of bare model files does with a GPU.


def test_a_worker_has_one_context_and_its_arena_only_while_it_serves(
    load: Load, gpu: RecordingGpu
) -> None:
    model = load()
    assert gpu.said[:1] == ["open"]
    assert model.context.launching is not None
    serve(model, FakeChannel(STOP))
    assert gpu.registered == {}


def test_on_a_processor_nothing_goes_ahead(folder: Path) -> None:
    context = context_of(folder, {"serializedFile": "m.pt2"})
    TensorHandler().initialize(context)
    assert context.launching is None


def test_graphs_are_captured_once_the_model_is_warm(load: Load, gpu: RecordingGpu) -> None:
    model = load(warmUp={"shape": [2]}, cudaGraphs=True)
    # Contexts of these tests have a batch size of 4; three passes of each number of rows.
    first = gpu.said.index("capture 4")
    assert gpu.said[:first].count("mark out") == 9
    assert [said for said in gpu.said if "capture" in said] == [
        "capture 4",
        "capture 2",
        "capture 1",
    ]
    channel = FakeChannel(batch(asking(1, [[1, 2], [3, 4], [5, 6]])), STOP)
    serve(model, channel)
    assert answered(channel) == [(0, [[2, 4], [6, 8], [10, 12]])]
    assert "replay 4" in gpu.said


def test_a_warm_up_that_the_model_does_not_take_fails_the_load(load: Load) -> None:
    with pytest.raises((RuntimeError, AssertionError)):
        load(warmUp={"shape": [5]})
    with pytest.raises(ValueError, match="takes one input"):
        load(warmUp=[{"shape": [2]}, {"shape": [2]}])


def test_an_exported_program_can_be_compiled(folder: Path) -> None:
    context = context_of(folder, {"serializedFile": "m.pt2"}, pt2="eager", warmUp={"shape": [2]})
    handler = TensorHandler()
    handler.initialize(context)
    assert isinstance(handler.model, torch._dynamo.OptimizedModule)  # noqa: SLF001
    assert handler.handle([{"body": [1, 2]}], context) == [[2, 4]]


def test_where_the_compiler_fails_the_model_is_served_as_it_is(
    folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(*_: object) -> None:
        raise RuntimeError("no compiler here")

    pt2 = {"backend": fail}
    context = context_of(folder, {"serializedFile": "m.pt2"}, pt2=pt2, warmUp={"shape": [2]})
    handler = TensorHandler()
    handler.initialize(context)
    assert "the model runs as it is, the compiled one failed" in caplog.text
    assert handler.handle([{"body": [1, 2]}], context) == [[2, 4]]
