"""Which devices a pool's workers have, while they come and go. Nothing is forked here."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from typing import Any, cast

from tests.unit.serving.test_plan import machine, plan_on
from tsd.errors import StartFailed, TsdError
from tsd.ipc.arguments import WorkerArguments
from tsd.runtimes.book import no_runtime
from tsd.serving.arena import Arena
from tsd.serving.fork_server import ForkServer
from tsd.serving.plan import Machine
from tsd.serving.pool import Pool, PoolEvents
from tsd.serving.worker_handle import WorkerHandle, WorkerState


class Forking:
    """A fork server that never gets ready, or says that it will not, as often as told."""

    def __init__(self, on_asked: Callable[[], None]) -> None:
        self.failures = 0
        self.error: TsdError = StartFailed("The runtime did not get ready.")
        self._on_asked = on_asked

    async def ready(self, _timeout_s: float) -> ForkServer:
        self._on_asked()
        if not self.failures:
            await asyncio.Event().wait()
        self.failures -= 1
        raise self.error


@dataclass
class Running:
    """A batch that a made-up worker has."""

    sent_at: float = 0.0


@dataclass
class MadeUp:
    """What the choice of a worker asks of it."""

    arguments: WorkerArguments
    state: WorkerState
    number: int = 1
    outstanding: dict[int, Running] = field(default_factory=lambda: {1: Running()})
    is_serving: bool = True
    takes_ahead: bool = True
    launches_ahead: bool = False

    @property
    def running(self) -> list[Running]:
        return list(self.outstanding.values())


class Scene:
    """A pool on a machine with as many GPUs as asked for."""

    def __init__(self, where: Machine, model_yaml: dict[str, Any]) -> None:
        self.machine = where
        self._changed = asyncio.Event()
        self.forking = Forking(self._changed.set)
        self.arena = Arena("requests", 4096)
        self.pool = Pool(
            plan_on(where, **model_yaml),
            self.forking.ready,
            self.arena,
            where.config,
            PoolEvents(
                on_change=self._changed.set,
                on_free=lambda: None,
                on_batch=lambda _batch: None,
                on_orphans=lambda _worker, _batches: None,
                give_back_slot=self.arena.give_back,
                on_metric=lambda _line: None,
            ),
        )

    @property
    def devices(self) -> dict[int, str]:
        return {number: one.arguments.device for number, one in self.pool.workers.items()}

    async def until(self, holds: Callable[[], bool]) -> None:
        async with asyncio.timeout(30):
            while not holds():
                self._changed.clear()
                await self._changed.wait()

    async def end(self) -> None:
        self.pool.stop()
        await self.until(lambda: not self.pool.workers)
        self.arena.close()


def run(
    story: Callable[[Scene], Coroutine[Any, Any, None]], where: Machine, **model_yaml: Any
) -> None:
    async def whole() -> None:
        scene = Scene(where, model_yaml)
        await story(scene)
        await scene.end()

    asyncio.run(whole())


def test_workers_that_are_scaled_down_leave_their_gpus_to_others() -> None:
    async def story(scene: Scene) -> None:
        scene.pool.scale(3)
        assert scene.devices == {1: "cuda:0", 2: "cuda:1", 3: "cuda:2"}
        scene.pool.scale(1)
        await scene.until(lambda: len(scene.pool.workers) == 1)
        other = plan_on(scene.machine)
        assert [other.placement.take(number) for number in (1, 2)] == [("cuda:1",), ("cuda:2",)]

    run(story, machine(3))


def test_a_worker_that_is_replaced_keeps_its_gpu() -> None:
    async def story(scene: Scene) -> None:
        scene.pool.scale(1)
        scene.forking.failures = 1
        await scene.until(lambda: not scene.pool.workers)
        # Meanwhile another model comes, and leaves the dead worker's place alone.
        assert plan_on(scene.machine).placement.take(1) == ("cuda:1",)
        assert [one.arguments.device for one in scene.pool.places] == ["cuda:0"]
        scene.machine.device_use.take([("cuda:0",)])
        await scene.until(lambda: bool(scene.pool.workers))
        assert scene.devices == {1: "cuda:0"}

    run(story, machine(2))


def test_when_all_is_stopped_no_gpu_is_in_use() -> None:
    where = machine(2)

    async def story(scene: Scene) -> None:
        scene.forking.failures = 1
        scene.pool.scale(2)
        await scene.until(lambda: len(scene.pool.workers) == 1)

    run(story, where)
    places = [("cuda:0",), ("cuda:1",)]
    assert [where.device_use.take(places) for _ in places] == places


def test_where_no_start_can_succeed_the_model_fails_at_once_until_something_has_changed() -> None:
    async def story(scene: Scene) -> None:
        scene.forking.failures, scene.forking.error = 1, no_runtime()
        scene.pool.scale(1)
        await scene.until(lambda: scene.pool.is_failed)
        assert scene.pool.last_error is not None
        assert "There is no runtime." in scene.pool.last_error.cause
        scene.pool.try_again()
        await scene.until(lambda: bool(scene.pool.workers))

    run(story, machine(0))


def test_a_busy_worker_gets_a_batch_ahead_when_it_is_full_and_on_a_gpu_in_any_case() -> None:
    for gpus, room in ((0, 0), (1, 4)):

        async def story(scene: Scene, room: int = room) -> None:
            busy = MadeUp(scene.pool.plan.arguments, WorkerState.BUSY)
            scene.pool.workers[1] = cast(WorkerHandle, busy)
            assert (scene.pool.room(False), scene.pool.room(True)) == (room, 4)  # noqa: FBT003
            del scene.pool.workers[1]

        run(story, machine(gpus), batchSize=4)


def test_a_worker_from_before_a_change_gets_no_larger_batch_than_it_was_told() -> None:
    async def story(scene: Scene) -> None:
        old = MadeUp(scene.pool.plan.arguments, WorkerState.BUSY)
        scene.pool.workers[1] = cast(WorkerHandle, old)
        scene.pool.plan = scene.pool.plan.with_batch_size(16)
        assert scene.pool.room(True) == 4  # noqa: FBT003
        assert not scene.pool.is_as_wanted
        del scene.pool.workers[1]

    run(story, machine(0), batchSize=4)


def test_a_worker_with_more_jobs_than_it_would_be_given_now_has_no_room() -> None:
    async def story(scene: Scene) -> None:
        pool = scene.pool
        begun = {number: Running() for number in range(8)}
        busy = MadeUp(pool.plan.arguments, WorkerState.BUSY, 1, begun)
        pool.workers[1] = cast(WorkerHandle, busy)
        pool.plan = pool.plan.with_batch_size(4)
        assert pool.free_workers() == []
        assert pool.room(False) == 0  # noqa: FBT003
        del pool.workers[1]

    run(story, machine(0), continuousBatching=True, batchSize=8)


def replaced(where: Machine, workers: int, **model_yaml: Any) -> list[tuple[str, tuple[int, ...]]]:
    """Where workers are after all of them were replaced for another batch size."""
    found: list[tuple[str, tuple[int, ...]]] = []

    async def story(scene: Scene) -> None:
        pool = scene.pool
        pool.scale(workers)
        become_ready(pool)
        pool.renew(pool.plan.with_batch_size(4))
        while not pool.is_as_wanted:
            become_ready(pool)
        found.extend((w.arguments.device, w.arguments.gpus) for w in pool.workers.values())
        for worker in pool.workers.values():
            # So that the end of the scene finds them as if they had never been forked.
            worker.state = WorkerState.STARTING

    run(story, where, **model_yaml)
    return sorted(found)


def become_ready(pool: Pool) -> None:
    """Those that start have started; those that were told to stop are gone."""
    for worker in list(pool.workers.values()):
        if worker.state is WorkerState.STARTING:
            worker.state, worker.was_ready = WorkerState.IDLE, True
            pool._on_ready(worker)  # noqa: SLF001 (there is no process to say so)
    for worker in list(pool.workers.values()):
        if worker.state is WorkerState.STOPPING:
            worker.state = WorkerState.EXITED
            pool._on_exit(worker, [])  # noqa: SLF001 (as above)


def test_workers_that_replace_others_have_their_gpus() -> None:
    each = [(f"cuda:{number}", (number,)) for number in range(4)]
    on_all = replaced(machine(4), 4)
    assert [device for device, _ in on_all] == [device for device, _ in each]
    assert [device for device, _ in replaced(machine(2), 2, deviceIds=[0, 1])] == [
        "cuda:0",
        "cuda:1",
    ]
    narrow = replaced(machine(2), 2, parallelType="pp", parallelLevel=1)
    assert [gpus for _, gpus in narrow] == [(0,), (1,)]
