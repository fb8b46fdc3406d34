"""The workers of one model: start them, choose a free one, replace the dead.

Batches are formed in batcher.py; one worker's life is in worker_handle.py; when a dead worker
is replaced is decided in breaker.py."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from itertools import count

from tsd.devices import Place
from tsd.errors import NoRuntime, StartFailed, TsdError, UnknownRuntime
from tsd.ipc.segment import Slot
from tsd.log import get_logger
from tsd.serving import rolling
from tsd.serving.arena import Arena
from tsd.serving.breaker import Breaker
from tsd.serving.fork_server import ForkServer
from tsd.serving.job import Batch, Job
from tsd.serving.plan import WorkerPlan
from tsd.serving.worker_handle import WorkerEvents, WorkerHandle, WorkerState
from tsd.settings import Config

NO_RESOURCES_S = 1.0

log = get_logger()


@dataclass(frozen=True, slots=True)
class LastError:
    """Why the last worker that nobody had told to go is gone."""

    at: datetime
    cause: str
    traceback: str


@dataclass(frozen=True, slots=True)
class PoolEvents:
    """What the model is told."""

    on_change: Callable[[], None]
    on_free: Callable[[], None]
    on_batch: Callable[[Batch], None]
    on_orphans: Callable[[WorkerHandle, list[Batch]], None]
    give_back_slot: Callable[[Slot], None]
    on_metric: Callable[[str], None]


@dataclass(slots=True)
class Counts:
    """What the pool has seen since the model was loaded."""

    restarts: int = 0
    failed_starts: int = 0


class Pool:
    """Keeps `wanted` workers alive. The most recently used free worker is chosen first.

    `fork_server` waits for the runtime's, so long at most."""

    def __init__(
        self,
        plan: WorkerPlan,
        fork_server: Callable[[float], Awaitable[ForkServer]],
        arena: Arena,
        config: Config,
        events: PoolEvents,
    ) -> None:
        self.plan = plan
        self.wanted = 0
        self.workers: dict[int, WorkerHandle] = {}
        # The dead whose places are empty until another one is started.
        self._lost: dict[int, WorkerHandle] = {}
        # By the number of those that are there, and of the dead that will be replaced.
        self._devices: dict[int, Place] = {}
        # The same for what is divided by turns: between 1 and as many as are wanted.
        self._seats: dict[int, int] = {}
        self._failing_since: float | None = None
        self.last_error: LastError | None = None
        self.counts = Counts()
        self.retry_at = 0.0
        self._fork_server = fork_server
        self._arena = arena
        self._config = config
        self._events = events
        self._heard = WorkerEvents(
            on_phase=self._on_phase,
            on_ready=self._on_ready,
            on_answers=self._on_answers,
            on_exit=self._on_exit,
            give_back_slot=events.give_back_slot,
            on_metric=events.on_metric,
        )
        self._breaker = Breaker()
        self._idle: list[WorkerHandle] = []
        self._starts: dict[WorkerHandle, asyncio.Task[None]] = {}
        self._retry: asyncio.TimerHandle | None = None
        self._loop = asyncio.get_running_loop()

    @property
    def is_failed(self) -> bool:
        """Whether nobody serves and the breaker is open: workers die or cannot be loaded."""
        return self._breaker.is_open and not self.serving

    @property
    def serving(self) -> int:
        """Workers that may get batches."""
        return sum(worker.is_serving for worker in self.workers.values())

    @property
    def places(self) -> list[WorkerHandle]:
        """The workers by number; in an empty place the one that died there."""
        return [one for _, one in sorted((self._lost | self.workers).items())]

    def has_failed_for(self, seconds: float, now: float) -> bool:
        """Whether no worker has become ready for so long since one died."""
        return self._failing_since is not None and now - self._failing_since > seconds

    def scale(self, wanted: int) -> None:
        """Start or stop workers until there are `wanted`; the last started stop first."""
        self.wanted = wanted
        for number in [number for number in self._lost if number > wanted]:
            self._forget(number)
        kept = [worker for worker in self.workers.values() if not rolling.is_going(worker)]
        kept.sort(key=lambda worker: (self.plan.is_outdated(worker.arguments), worker.number))
        for worker in kept[wanted + rolling.surplus(kept, self.plan, wanted) :]:
            self._let_go(worker)
        self._roll()
        self._events.on_change()

    def renew(self, plan: WorkerPlan) -> None:
        """Have workers that were told the new batch size in place of the others."""
        self.plan = plan
        self.scale(self.wanted)

    @property
    def is_as_wanted(self) -> bool:
        """Whether as many serve as are wanted, and all have been told the present batch size."""
        outdated = rolling.outdated(self.workers.values(), self.plan)
        return self.serving == self.wanted and not outdated

    def try_again(self) -> None:
        """What keeps workers from starting may be mended: the next trial is made now."""
        if self.wanted and not self.serving:
            self._retry_after(0.0)

    def room(self, is_full: bool, is_alone: bool = False) -> int:  # noqa: FBT001, FBT002 (the batcher's callback)
        """How many jobs can go: to a free worker, or ahead of need when the batch is full.

        `is_alone`: the first of them must run beside no others."""
        worker = self._next(is_full=is_full, is_alone=is_alone)
        return 0 if worker is None else self._room_of(worker)

    def give(self, jobs: list[Job]) -> None:
        """Hand a batch to the worker that `room` spoke of."""
        worker = self._next(is_full=True, is_alone=jobs[0].is_alone)
        assert worker is not None, "give() without a worker"
        self.give_to(worker, jobs)

    def free_workers(self) -> list[tuple[WorkerHandle, int]]:
        """Those that would begin at once, and with how many jobs."""
        workers = [w for w in self.workers.values() if w.is_serving]
        if not self.plan.overlaps:
            workers = list(reversed(self._idle))
        return [(w, self._room_of(w)) for w in workers if self._room_of(w)]

    def give_to(self, worker: WorkerHandle, jobs: list[Job]) -> None:
        """Hand a batch to that worker."""
        if worker in self._idle:
            self._idle.remove(worker)
        worker.give(jobs)

    def cancel(self, job: Job) -> None:
        """Nobody waits for the answer of a job that a worker has."""
        for worker in self.workers.values():
            worker.cancel(job)

    @property
    def running(self) -> list[Batch]:
        """The batches that workers have."""
        return [batch for worker in self.workers.values() for batch in worker.outstanding.values()]

    @property
    def has_timeouts(self) -> bool:
        """Whether a start-up timeout or a response timeout is running."""
        return any(w.state is WorkerState.STARTING or w.outstanding for w in self.workers.values())

    def sweep(self, now: float) -> list[Job]:
        """End workers that overran a timeout; the jobs of which one was running too long."""
        hung: list[Job] = []
        for worker in self.workers.values():
            worker.sweep(now)
            overdue = worker.overdue(now, self.plan.response_timeout_s)
            if overdue:
                hung += [job for batch in overdue for job in batch.jobs]
                worker.end_hung()
            elif worker.starts_since(now) > self.plan.startup_timeout_s:
                worker.kill("it did not get ready in time")
        return hung

    def stop(self) -> None:
        """Nobody is wanted any more, and nobody waits for what still runs."""
        self.wanted = 0
        if self._retry is not None:
            self._retry.cancel()
        for number in list(self._lost):
            self._forget(number)
        for worker in list(self.workers.values()):
            self._retire(worker, self._config.serving.stop_s)
        self._events.on_change()

    def _next(self, *, is_full: bool, is_alone: bool) -> WorkerHandle | None:
        """Who would get the next batch."""
        if self._idle:
            return self._idle[-1]
        if self.plan.overlaps:
            takers = [worker for worker, _ in self.free_workers()]
            return min(takers, key=lambda worker: len(worker.outstanding), default=None)
        return self._next_ahead(is_alone=is_alone) if is_full or self.plan.always_ahead else None

    def _room_of(self, worker: WorkerHandle) -> int:
        """How many jobs it would take."""
        begun = len(worker.outstanding) if self.plan.overlaps else 0
        # One from before may have more than it would be given now.
        return max(0, self.plan.room_of(worker.arguments) - begun)

    def _next_ahead(self, *, is_alone: bool) -> WorkerHandle | None:
        """A busy worker that could have its next batch waiting at its door: the freshest one."""
        if not self.plan.goes_ahead:
            return None
        busy = (w for w in self.workers.values() if w.state is WorkerState.BUSY)
        takers = [w for w in busy if w.takes_ahead and not (is_alone and w.launches_ahead)]
        return max(takers, key=lambda worker: worker.running[0].sent_at, default=None)

    def _let_go(self, worker: WorkerHandle) -> None:
        """It finishes what it has, and takes nothing new."""
        busy_s = self.plan.response_timeout_s if worker.outstanding else 0.0
        self._retire(worker, self._config.serving.stop_s + busy_s)

    def _retire(self, worker: WorkerHandle, grace_s: float) -> None:
        if worker in self._idle:
            self._idle.remove(worker)
        worker.stop(grace_s)
        if worker.pid == 0 and worker in self._starts:
            # It waits for the fork server, which may never come.
            self._starts[worker].cancel()

    def _start_missing(self) -> None:
        """One trial at a time while the breaker is open; else as many as are missing."""
        alive = sum(not rolling.is_going(worker) for worker in self.workers.values())
        surplus = rolling.surplus(self.workers.values(), self.plan, self.wanted)
        missing = max(self.wanted - alive, self.wanted + surplus - len(self.workers))
        if self._breaker.is_open:
            starting = sum(w.state is WorkerState.STARTING for w in self.workers.values())
            missing = min(missing, 1 - starting)
        for _ in range(missing):
            self._start_one()
        if alive + max(0, missing) >= self.wanted + surplus:
            # Others have come in their place, while workers were replaced.
            for number in list(self._lost):
                self._forget(number)

    def _roll(self) -> None:
        """Let the next outdated worker go, if it can; start who is missing."""
        leaving = rolling.next_to_go(list(self.workers.values()), self.plan, self.wanted)
        if leaving is not None:
            self._let_go(leaving)
        self._start_missing()

    def _start_one(self) -> None:
        free = (n for n in range(1, len(self.workers) + 2) if n not in self.workers)
        number = min(self._lost) if self._lost else next(free)
        if number not in self._devices:
            self._take_place(number)
        place, seat = self._devices[number], self._seats[number]
        arguments = self.plan.arguments_of(number, place, max(1, self.wanted), seat)
        try:
            worker = WorkerHandle(arguments, self._arena, self._config.log, self._heard)
        except OSError as error:
            # No memory or no descriptors: nothing has died, so nothing is counted; but tried again.
            log.error(
                "no worker can be made: %s",
                error,
                model=arguments.model_name,
                version=arguments.model_version,
                worker=number,
                errno=error.errno,
                code="worker_start_failed",
            )
            if number not in self._lost:
                self._forget(number)
            self._retry_after(NO_RESOURCES_S)
            return
        self.workers[number] = worker
        self._lost.pop(number, None)
        start = self._loop.create_task(self._start(worker))
        self._starts[worker] = start
        start.add_done_callback(partial(self._on_start_over, worker))

    def _take_place(self, number: int) -> None:
        """As if those that are on their way out, or will be, were gone already."""
        plan, use = self.plan, self.plan.placement.use
        leaving = {
            n: self._devices[n]
            for n, worker in self.workers.items()
            if rolling.is_going(worker) or plan.is_outdated(worker.arguments)
        }
        taken = {seat for n, seat in self._seats.items() if n not in leaving}
        self._seats[number] = next(seat for seat in count(1) if seat not in taken)
        for place in leaving.values():
            use.give_back(place)
        self._devices[number] = plan.placement.take(self._seats[number])
        for place in leaving.values():
            use.take([place])

    async def _start(self, worker: WorkerHandle) -> None:
        try:
            # The runtime's own start is not the model's: that one's timeout begins after it.
            fork_server = await self._fork_server(self._config.serving.startup_timeout_s)
            if self.plan.startup_timeout_s <= 0:
                raise StartFailed("The startup timeout of 0 leaves no time to start.")
            await worker.start(fork_server)
        except (TsdError, OSError) as error:
            if isinstance(error, NoRuntime | UnknownRuntime):
                self._breaker.give_up()
            self._on_never_forked(worker, f"{error} {getattr(error, 'why', '')}".strip())
            return
        if self.workers.get(worker.number) is not worker or worker.state is WorkerState.STOPPING:
            # It was retired while it was being forked.
            worker.kill("it is no longer wanted")

    def _on_start_over(self, worker: WorkerHandle, start: asyncio.Task[None]) -> None:
        del self._starts[worker]
        # A task that is cancelled before its first step has not run a line of `_start`.
        if start.cancelled():
            self._on_never_forked(worker, "it was no longer wanted")

    def _on_never_forked(self, worker: WorkerHandle, why: str) -> None:
        worker.abandon()
        worker.exit_text = why
        del self.workers[worker.number]
        self._on_gone(worker)

    def _on_phase(self, _worker: WorkerHandle) -> None:
        self._events.on_change()

    def _on_ready(self, worker: WorkerHandle) -> None:
        self._breaker.started()
        self._failing_since = None
        self._idle.append(worker)
        self._events.on_free()
        # After a successful trial the others may come, too.
        self._roll()
        self._events.on_change()

    def _on_answers(self, worker: WorkerHandle, batch: Batch) -> None:
        self._breaker.answered()
        if worker.state is WorkerState.IDLE:
            self._idle.append(worker)
        self._events.on_batch(batch)
        if worker.is_serving:
            self._events.on_free()

    def _on_exit(self, worker: WorkerHandle, orphans: list[Batch]) -> None:
        if worker in self._idle:
            self._idle.remove(worker)
        self.workers.pop(worker.number, None)
        self._events.on_orphans(worker, orphans)
        self._on_gone(worker)

    def _on_gone(self, worker: WorkerHandle) -> None:
        if not worker.was_told_to_stop:
            self._replace(worker)
            return
        self._forget(worker.number)
        self._roll()
        self._events.on_change()

    def _forget(self, number: int) -> None:
        """Nobody takes the place of a worker that is gone."""
        self._lost.pop(number, None)
        del self._seats[number]
        self.plan.placement.use.give_back(self._devices.pop(number))

    def _replace(self, worker: WorkerHandle) -> None:
        """A worker is gone that should not be."""
        now = time.monotonic()
        self._lost[worker.number] = worker
        self._failing_since = self._failing_since or now
        self.last_error = LastError(datetime.now(UTC), worker.exit_text, worker.traceback)
        self._breaker.died(now, was_ready=worker.was_ready)
        self.counts.restarts += 1
        self.counts.failed_starts += not worker.was_ready
        delay_s = self._breaker.delay_s(random.uniform(-1, 1))  # noqa: S311 (jitter)
        self.retry_at = now + delay_s
        log.error(
            "worker died: %s; next start in %.1f s",
            worker.exit_text,
            delay_s,
            code="worker_died" if worker.was_ready else "worker_start_failed",
            **worker.about,
            signal=worker.exit_status.signal,
            exit_code=worker.exit_status.code,
            request_id=worker.last_request_ids or None,
            exception=worker.traceback or None,
        )
        self._retry_after(delay_s)
        self._events.on_change()

    def _retry_after(self, delay_s: float) -> None:
        if self._retry is not None:
            self._retry.cancel()
        self._retry = self._loop.call_later(delay_s, self._start_missing)
