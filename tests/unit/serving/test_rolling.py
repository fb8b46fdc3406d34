"""Who is replaced next, told by workers that are only made up."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import cast

from tests.unit.serving.test_plan import machine, plan_on
from tsd.ipc.arguments import WorkerArguments
from tsd.serving.plan import WorkerPlan
from tsd.serving.rolling import next_to_go, outdated, surplus
from tsd.serving.worker_handle import WorkerHandle, WorkerState


@dataclass
class MadeUp:
    """What is asked of a worker here."""

    arguments: WorkerArguments
    state: WorkerState = WorkerState.IDLE

    @property
    def is_serving(self) -> bool:
        return self.state in (WorkerState.IDLE, WorkerState.BUSY)


def handles(workers: list[MadeUp]) -> list[WorkerHandle]:
    return cast(list[WorkerHandle], workers)


def rolled(plan: WorkerPlan, old: list[MadeUp]) -> list[int]:
    """How many served at each step until nobody was outdated any more."""
    wanted, workers, served = len(old), list(old), list[int]()
    while outdated(handles(workers), plan):
        missing = wanted + surplus(handles(workers), plan, wanted) - len(workers)
        workers += [MadeUp(plan.arguments, WorkerState.STARTING) for _ in range(missing)]
        served.append(sum(worker.is_serving for worker in workers))
        # Nobody goes before the new one is there.
        assert not missing or next_to_go(handles(workers), plan, wanted) is None
        for worker in workers:
            worker.state = WorkerState.IDLE
        leaving = next_to_go(handles(workers), plan, wanted)
        assert leaving is not None
        workers.remove(cast(MadeUp, leaving))
    return served


def test_each_goes_when_its_replacement_serves() -> None:
    plan = plan_on(machine(0))
    old = [MadeUp(plan.arguments) for _ in range(3)]
    assert rolled(plan.with_batch_size(8), old) == [3, 3, 3]


def test_where_there_is_no_room_for_one_more_each_goes_before() -> None:
    plan = plan_on(machine(2), parallelType="pp", parallelLevel=1)
    assert plan.placement.most_workers == 2
    old = [MadeUp(plan.arguments) for _ in range(2)]
    assert rolled(plan.with_batch_size(8), old) == [2, 1]


def test_while_one_is_going_or_starting_nobody_else_goes() -> None:
    plan = plan_on(machine(0)).with_batch_size(8)
    old = replace(plan.arguments, batch_size=4)
    for state in (WorkerState.STOPPING, WorkerState.STARTING):
        workers = handles([MadeUp(old), MadeUp(plan.arguments), MadeUp(plan.arguments, state)])
        assert next_to_go(workers, plan, 2) is None


def test_without_outdated_workers_there_is_nothing_to_do() -> None:
    plan = plan_on(machine(0))
    workers = handles([MadeUp(plan.arguments)])
    assert (next_to_go(workers, plan, 1), surplus(workers, plan, 1)) == (None, 0)


def test_where_nobody_is_wanted_nobody_is_replaced() -> None:
    plan = plan_on(machine(0))
    workers = handles([MadeUp(plan.arguments)])
    assert surplus(workers, plan.with_batch_size(8), 0) == 0
