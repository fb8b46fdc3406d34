"""Where workers go, on machines with as many GPUs as a test likes."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import pytest

from tsd.errors import StartFailed
from tsd.models.description import ModelFiles, RegisterOptions, describe
from tsd.serving.fork_servers import ForkServers
from tsd.serving.plan import Machine, WorkerPlan, worker_plan
from tsd.settings import Config, ServingSettings


def machine(gpus: int, most: int = 64) -> Machine:
    config = Config(serving=ServingSettings(max_gpus=most))
    devices = tuple(f"cuda:{number}" for number in range(gpus)) or ("cpu",)
    return Machine(config, cast(ForkServers, None), devices, lambda _line: None, {})


def on_two_nodes(**serving: Any) -> Machine:
    nodes = (tuple(range(6)), tuple(range(6, 12)))
    return replace(machine(0), config=Config(serving=ServingSettings(**serving)), nodes=nodes)


def plan_on(where: Machine, **model_yaml: Any) -> WorkerPlan:
    manifest = {"model": {"modelName": "m", "handler": "h.py"}}
    files = ModelFiles(Path("/store/m.mar"), Path("/x"), manifest, model_yaml)
    return worker_plan(describe(files, RegisterOptions(), where.config.serving), where)


def gpus_of(plan: WorkerPlan, numbers: range) -> list[tuple[int, ...]]:
    """The GPUs of the workers of those numbers, started one after the other."""
    return [tuple(int(d[5:]) for d in plan.placement.take(number)) for number in numbers]


def test_without_gpus_all_is_on_the_cpu() -> None:
    plan = plan_on(machine(0), deviceIds=[0], deviceType="gpu")
    arguments = plan.arguments_of(2, plan.placement.take(2))
    assert (arguments.device, arguments.gpu_id, arguments.gpus) == ("cpu", None, ())
    assert not plan.placement.is_on_gpu
    assert plan.placement.device_ids == ()


def test_a_model_that_asks_for_the_cpu_gets_it() -> None:
    assert not plan_on(machine(4), deviceType="cpu").placement.is_on_gpu


def test_workers_take_turns_from_gpu_0_over_all_models() -> None:
    shared = machine(3)
    first, second = plan_on(shared), plan_on(shared)
    assert gpus_of(first, range(1, 3)) == [(0,), (1,)]
    assert gpus_of(second, range(1, 5)) == [(2,), (0,), (1,), (2,)]


def test_a_gpu_that_became_free_is_next() -> None:
    shared = machine(3)
    plan = plan_on(shared)
    gpus_of(plan, range(1, 4))
    shared.device_use.give_back(("cuda:1",))
    assert gpus_of(plan_on(shared), range(1, 3)) == [(1,), (0,)]


def test_an_ordinary_worker_sees_all_gpus_and_is_told_its_own() -> None:
    plan = plan_on(machine(2))
    arguments = plan.arguments_of(1, ("cuda:1",))
    assert (arguments.device, arguments.gpu_id, arguments.gpus) == ("cuda:1", 1, ())
    assert plan.capped(100) == 100


def test_named_gpus_are_taken_in_the_order_of_the_list() -> None:
    shared = machine(4)
    plan = plan_on(shared, deviceIds=[3, 1])
    assert gpus_of(plan, range(1, 5)) == [(3,), (1,), (3,), (1,)]
    assert plan.placement.device_ids == (3, 1)
    # Another model goes where these are not.
    assert gpus_of(plan_on(shared), range(1, 3)) == [(0,), (2,)]


@pytest.mark.parametrize("ids", [[0, 2], [-1], [7]])
def test_one_gpu_that_is_not_there_spoils_the_list(ids: list[int]) -> None:
    plan = plan_on(machine(2), deviceIds=ids)
    assert plan.placement.device_ids == ()
    assert gpus_of(plan, range(1, 3)) == [(0,), (1,)]


def test_gpus_beyond_the_configured_number_are_not_used() -> None:
    plan = plan_on(machine(8, most=2))
    assert gpus_of(plan, range(1, 4)) == [(0,), (1,), (0,)]
    assert plan_on(machine(8, most=2), deviceIds=[2]).placement.device_ids == ()
    assert not plan_on(machine(8, most=0)).placement.is_on_gpu


@pytest.mark.parametrize(
    "asked",
    [
        {"parallelType": "custom", "parallelLevel": 2},
        {"parallelType": "tp", "torchrun": {"nproc-per-node": 2}},
    ],
)
def test_a_divided_worker_has_consecutive_gpus_for_itself(asked: dict[str, Any]) -> None:
    plan = plan_on(machine(5), **asked)
    assert gpus_of(plan, range(1, 3)) == [(0, 1), (2, 3)]
    assert (plan.capped(1), plan.capped(2), plan.capped(9)) == (1, 2, 2)
    arguments = plan.arguments_of(2, ("cuda:2", "cuda:3"))
    assert (arguments.device, arguments.gpu_id, arguments.gpus) == ("cuda:0", 0, (2, 3))


def test_named_gpus_are_divided_in_their_order() -> None:
    asked = {"parallelType": "custom", "parallelLevel": 2, "deviceIds": [4, 2, 1, 0, 3]}
    plan = plan_on(machine(5), **asked)
    assert gpus_of(plan, range(1, 4)) == [(4, 2), (1, 0), (4, 2)]
    assert plan.capped(9) == 2


def test_a_worker_that_needs_more_gpus_than_there_are_fails_the_registration() -> None:
    with pytest.raises(StartFailed, match="Not enough GPUs for model m, parallelLevel 4"):
        plan_on(machine(3), parallelType="custom", parallelLevel=4)


def test_on_the_cpu_a_division_caps_nothing() -> None:
    asked = {"parallelType": "tp", "torchrun": {"nproc-per-node": 4, "OMP_NUMBER_THREADS": 2}}
    plan = plan_on(machine(0), **asked)
    assert plan.capped(3) == 3
    assert (plan.arguments.ranks, plan.arguments.threads) == (4, 2)


@pytest.mark.parametrize(("workers", "threads"), [(1, 12), (3, 4), (5, 2), (30, 1)])
def test_all_processors_are_shared_evenly_where_threads_are_auto(
    workers: int, threads: int
) -> None:
    plan = plan_on(on_two_nodes(threads="auto"))
    arguments = plan.arguments_of(1, ("cpu",), workers)
    assert (arguments.threads, arguments.processors) == (threads, ())


def test_ranks_of_one_worker_share_its_threads() -> None:
    asked = {"parallelType": "tp", "torchrun": {"nproc-per-node": 4}}
    plan = plan_on(on_two_nodes(threads="auto"), **asked)
    assert plan.arguments_of(1, ("cpu",), 1).threads == 3


def test_a_pinned_worker_has_as_many_threads_as_processors_unless_told() -> None:
    plan = plan_on(on_two_nodes(threads="auto", pin_workers=True))
    arguments = plan.arguments_of(2, ("cpu",), 4)
    assert (arguments.threads, arguments.processors) == (3, (6, 7, 8))
    plan = plan_on(on_two_nodes(threads=2, pin_workers=True))
    assert plan.arguments_of(2, ("cpu",), 4).threads == 2


@pytest.mark.parametrize(
    ("asked", "expected"),
    [
        ({"batchSize": 4}, True),
        ({}, False),
        ({"batchSize": 4, "parallelType": "tp", "parallelLevel": 2}, False),
    ],
)
def test_a_batch_goes_ahead_where_it_may_wait(asked: dict[str, Any], *, expected: bool) -> None:
    assert plan_on(machine(0), **asked).goes_ahead is expected


def test_a_gpu_gets_its_next_batch_ahead_although_it_is_not_full() -> None:
    assert plan_on(machine(1), batchSize=8).always_ahead
    assert not plan_on(machine(0), batchSize=8).always_ahead
    # A batch of one would wait there beside a worker that is free.
    assert not plan_on(machine(1), batchSize=1).always_ahead


def test_a_worker_never_gets_more_jobs_than_it_was_told() -> None:
    small = plan_on(machine(0), batchSize=4)
    large = small.with_batch_size(16)
    assert large.rows == large.room_of(large.arguments) == 16
    assert large.room_of(small.arguments) == 4
    assert small.room_of(large.arguments) == 4
    assert large.is_outdated(small.arguments)
    assert not large.is_outdated(large.arguments)


def test_where_calls_overlap_the_batch_size_is_not_their_limit() -> None:
    plan = plan_on(machine(0), asyncCommunication=True)
    changed = plan.with_batch_size(16)
    assert changed.capacity == plan.capacity
    assert changed.room_of(plan.arguments) == plan.capacity
