"""The workers of one model: start them, choose a free one, replace the dead.

Batches are formed in batcher.py; one worker's life is in worker_handle.py; when a dead worker
is replaced is decided in breaker.py."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime

from tsd.errors import TsdError
from tsd.ipc.segment import Slot
from tsd.log import get_logger
from tsd.serving.arena import Arena
from tsd.serving.breaker import Breaker
from tsd.serving.fork_server import ForkServer
from tsd.serving.job import Batch, Job
from tsd.serving.plan import WorkerPlan, with_place
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


@dataclass(slots=True)
class Counts:
    """What the pool has seen since the model was loaded."""

    restarts: int = 0
    failed_starts: int = 0


class Pool:
    """Keeps `wanted` workers alive. The most recently used free worker is chosen first."""

    def __init__(
        self,
        plan: WorkerPlan,
        fork_server: ForkServer,
        arena: Arena,
        config: Config,
        events: PoolEvents,
    ) -> None:
        self.plan = plan
        self.wanted = 0
        self.workers: dict[int, WorkerHandle] = {}
        self.last_error: LastError | None = None
        self.counts = Counts()
        self.retry_at = 0.0
        self._fork_server = fork_server
        self._arena = arena
        self._config = config
        self._events = events
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

    def scale(self, wanted: int) -> None:
        """Start or stop workers until there are `wanted`; the last started stop first."""
        self.wanted = wanted
        kept = [w for w in self.workers.values() if w.state is not WorkerState.STOPPING]
        for worker in sorted(kept, key=lambda worker: worker.number)[wanted:]:
            busy_s = self.plan.response_timeout_s if worker.outstanding else 0.0
            self._retire(worker, self._config.serving.stop_s + busy_s)
        self._start_missing()
        self._events.on_change()

    def has_worker(self, is_full: bool) -> bool:  # noqa: FBT001 (the batcher's callback)
        """Whether a batch can go: to a free worker, or ahead of need when it is full."""
        return bool(self._idle) or (is_full and self._next_ahead() is not None)

    def give(self, jobs: list[Job]) -> None:
        """Hand a batch to the worker that `has_worker` spoke of."""
        worker = self._idle.pop() if self._idle else self._next_ahead()
        assert worker is not None, "give() without a worker"
        worker.give(jobs)

    @property
    def has_timeouts(self) -> bool:
        """Whether a start-up timeout or a response timeout is running."""
        return any(w.state is WorkerState.STARTING or w.outstanding for w in self.workers.values())

    def sweep(self, now: float) -> list[Job]:
        """End workers that overran a timeout; the jobs of which one was running too long."""
        hung: list[Job] = []
        for worker in self.workers.values():
            worker.sweep(now)
            if worker.runs_since(now) > self.plan.response_timeout_s:
                hung += worker.outstanding[0].jobs
                worker.end_hung()
            elif worker.starts_since(now) > self.plan.startup_timeout_s:
                worker.kill("it did not get ready in time")
        return hung

    def stop(self) -> None:
        """Nobody is wanted any more, and nobody waits for what still runs."""
        self.wanted = 0
        if self._retry is not None:
            self._retry.cancel()
        for worker in list(self.workers.values()):
            self._retire(worker, self._config.serving.stop_s)
        self._events.on_change()

    def _next_ahead(self) -> WorkerHandle | None:
        """A busy worker that could have its next batch waiting at its door: the freshest one.

        Not where a batch is one job: that one would wait behind it beside a worker that is free."""
        if self.plan.arguments.batch_size == 1:
            return None
        busy = (w for w in self.workers.values() if w.state is WorkerState.BUSY)
        takers = [worker for worker in busy if len(worker.outstanding) == 1]
        return max(takers, key=lambda worker: worker.outstanding[0].sent_at, default=None)

    def _retire(self, worker: WorkerHandle, grace_s: float) -> None:
        if worker in self._idle:
            self._idle.remove(worker)
        worker.stop(grace_s)
        if worker.pid == 0 and worker in self._starts:
            # It waits for the fork server, which may never come.
            self._starts[worker].cancel()

    def _start_missing(self) -> None:
        """One trial at a time while the breaker is open; else as many as are missing."""
        alive = sum(w.state is not WorkerState.STOPPING for w in self.workers.values())
        missing = self.wanted - alive
        if self._breaker.is_open:
            missing = min(missing, 1 - alive)
        for _ in range(missing):
            self._start_one()

    def _start_one(self) -> None:
        number = next(n for n in range(1, len(self.workers) + 2) if n not in self.workers)
        device = self.plan.devices[(number - 1) % len(self.plan.devices)]
        arguments = with_place(self.plan.arguments, number, device)
        try:
            worker = WorkerHandle(arguments, self._arena, self._config.log)
        except OSError as error:
            # No memory or no descriptors: nothing has died, so nothing is counted; but tried again.
            log.error("no worker can be made: %s", error, code="worker_start_failed")
            self._retry_after(NO_RESOURCES_S)
            return
        self.workers[number] = worker
        start = self._loop.create_task(self._start(worker))
        self._starts[worker] = start
        start.add_done_callback(lambda _start: self._starts.pop(worker))

    async def _start(self, worker: WorkerHandle) -> None:
        events = WorkerEvents(
            on_phase=self._on_phase,
            on_ready=self._on_ready,
            on_answers=self._on_answers,
            on_exit=self._on_exit,
            give_back_slot=self._events.give_back_slot,
        )
        try:
            # The runtime's own start is not the model's: that one's timeout begins after it.
            await self._fork_server.wait_until_ready(self._config.serving.startup_timeout_s)
            await worker.start(self._fork_server, events)
        except (TsdError, OSError, asyncio.CancelledError) as error:
            worker.abandon()
            del self.workers[worker.number]
            worker.exit_text = f"{error} {getattr(error, 'why', '')}".strip()
            if worker.was_told_to_stop:
                self._start_missing()
                self._events.on_change()
            else:
                self._replace(worker)
            return
        if self.workers.get(worker.number) is not worker or worker.state is WorkerState.STOPPING:
            # It was retired while it was being forked.
            worker.kill("it is no longer wanted")

    def _on_phase(self, _worker: WorkerHandle) -> None:
        self._events.on_change()

    def _on_ready(self, worker: WorkerHandle) -> None:
        self._breaker.started()
        self._idle.append(worker)
        self._events.on_free()
        # After a successful trial the others may come, too.
        self._start_missing()
        self._events.on_change()

    def _on_answers(self, worker: WorkerHandle, batch: Batch) -> None:
        self._breaker.answered()
        if worker.state is WorkerState.IDLE:
            self._idle.append(worker)
        self._events.on_batch(batch)
        if worker.is_serving:
            self._events.on_free()
        self._events.on_change()

    def _on_exit(self, worker: WorkerHandle, orphans: list[Batch]) -> None:
        if worker in self._idle:
            self._idle.remove(worker)
        self.workers.pop(worker.number, None)
        self._events.on_orphans(worker, orphans)
        if worker.was_told_to_stop:
            self._start_missing()
            self._events.on_change()
        else:
            self._replace(worker)

    def _replace(self, worker: WorkerHandle) -> None:
        """A worker is gone that should not be."""
        self.last_error = LastError(datetime.now(UTC), worker.exit_text, worker.traceback)
        self._breaker.died(time.monotonic(), was_ready=worker.was_ready)
        self.counts.restarts += 1
        self.counts.failed_starts += not worker.was_ready
        delay_s = self._breaker.delay_s(random.uniform(-1, 1))  # noqa: S311 (jitter)
        self.retry_at = time.monotonic() + delay_s
        log.error(
            "worker died: %s; next start in %.1f s",
            worker.exit_text,
            delay_s,
            code="worker_died" if worker.was_ready else "worker_start_failed",
            model=worker.arguments.model_name,
            version=worker.arguments.model_version,
            worker=worker.number,
            exception=worker.traceback or None,
        )
        self._retry_after(delay_s)
        self._events.on_change()

    def _retry_after(self, delay_s: float) -> None:
        if self._retry is not None:
            self._retry.cancel()
        self._retry = self._loop.call_later(delay_s, self._start_missing)
