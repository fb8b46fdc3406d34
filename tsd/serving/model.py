"""One version of a model: its settings, its state, its arena, its batcher and its pool.

A job that is submitted here gets exactly one outcome, by its deadline at the latest."""

from __future__ import annotations

import asyncio
import enum
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from http import HTTPStatus

from tsd.errors import (
    DeadlinePassed,
    Draining,
    ModelFailed,
    NoWorkers,
    QueueFull,
    StartFailed,
    TsdError,
    WorkerDied,
    WorkerHung,
)
from tsd.ipc.layout import inline_limit
from tsd.ipc.segment import Slot
from tsd.log import get_logger
from tsd.metrics import ModelFigures, ModelSnapshot
from tsd.models.description import ModelDescription
from tsd.serving.arena import Arena
from tsd.serving.batcher import Batcher, BatchLimits
from tsd.serving.fork_servers import ModelRuntime
from tsd.serving.job import Batch, Job, request_ids
from tsd.serving.plan import Machine, worker_plan
from tsd.serving.pool import Pool, PoolEvents
from tsd.serving.sequences import SequenceBatcher
from tsd.serving.worker_handle import WorkerHandle, WorkerState

SWEEP_S = 0.25
MAX_ATTEMPTS = 2
# After a start, from when it is ready: for so long, at most, more may wait than always.
CATCH_UP_S = 30.0

log = get_logger()


class ModelState(enum.StrEnum):
    """`failed`: its workers die or cannot be loaded; trials go on behind it."""

    LOADING = "loading"
    READY = "ready"
    DRAINING = "draining"
    UNLOADED = "unloaded"
    FAILED = "failed"


MOVES = {
    ModelState.LOADING: {ModelState.READY, ModelState.FAILED, ModelState.DRAINING},
    ModelState.READY: {ModelState.LOADING, ModelState.FAILED, ModelState.DRAINING},
    ModelState.FAILED: {ModelState.READY, ModelState.LOADING, ModelState.DRAINING},
    ModelState.DRAINING: {ModelState.UNLOADED},
    ModelState.UNLOADED: set[ModelState](),
}


class Model:
    """Made by the registry; workers come with `scale`."""

    def __init__(
        self,
        description: ModelDescription,
        machine: Machine,
        *,
        is_from_start: bool = False,
        is_returning: bool = False,
    ) -> None:
        serving = machine.config.serving
        self.description = description
        self.is_from_start = is_from_start
        self.state = ModelState.LOADING
        self.min_workers = description.min_workers
        self.max_workers = description.max_workers
        self.figures = ModelFigures()
        self.stream_buffer_bytes = serving.stream_buffer_bytes
        self.inline_bytes = inline_limit(description.batch_size)
        self.default_deadline_s = description.deadline_s or max(
            serving.deadline_s, description.response_timeout_s
        )
        self._loop = asyncio.get_running_loop()
        self._sweep: asyncio.TimerHandle | None = None
        self._watchers: list[asyncio.Future[None]] = []
        self._is_degraded = False
        asked = description.pinned_runtime or description.runtime
        self.runtime = ModelRuntime(asked, machine.fork_servers)
        plan = worker_plan(description, machine)
        label = f"tsd requests {description.name}/{description.version}"[:200]
        self._about = {"model": description.name, "version": description.version}
        # A GPU would go on reading the pages that are given back.
        idle_s = 0.0 if plan.placement.is_on_gpu else serving.arena_idle_s
        self.arena = Arena(label, serving.arena_bytes, idle_s=idle_s, **self._about)
        self.arena_view = self.arena.segment.map_to_write()
        self.pool = Pool(
            plan,
            self.runtime.ready,
            self.arena,
            machine.config,
            PoolEvents(
                on_change=self._on_change,
                on_free=self._on_free,
                on_batch=self._on_batch,
                on_orphans=self._on_orphans,
                give_back_slot=self.arena.give_back,
                on_metric=machine.on_metric,
            ),
        )
        self.batcher = self._make_batcher(serving.sequence_end_header)
        # Clients have not been told of the restart: until it is back and has caught up, they wait.
        self._bounds = self.batcher.limits
        self._is_catching_up = is_returning
        if is_returning:
            self.batcher.limits = replace(self._bounds, max_waiting=sys.maxsize)

    def _make_batcher(self, end_header: str) -> Batcher | SequenceBatcher:
        description = self.description
        limits = BatchLimits(self.pool.plan.rows, description.batch_delay_s, description.queue_size)
        if description.is_stateful and description.sequences is not None:
            # Only where jobs overlap does an answer end sequences, as in TorchServe.
            ends = end_header.lower().encode("latin-1") if self.pool.plan.overlaps else b""
            return SequenceBatcher(limits, description.sequences, ends, self, self._loop)
        return Batcher(limits, self.pool.room, self._give, self._loop)

    @property
    def name(self) -> str:
        """The model's name."""
        return self.description.name

    @property
    def version(self) -> str:
        """The model's version."""
        return self.description.version

    # The way of a prediction.

    @property
    def open_jobs(self) -> list[Job]:
        """Those that wait or run, and have had no outcome."""
        running = [job for batch in self.pool.running for job in batch.jobs]
        return [job for job in (*self.batcher.waiting, *running) if not job.is_done]

    def check_open(self) -> None:
        """Raise at once where no request can be answered."""
        if self.state is ModelState.READY and self.pool.wanted:
            return
        if self.state in (ModelState.DRAINING, ModelState.UNLOADED):
            raise Draining(f"Model {self.name} is being unregistered.")
        if self.state is ModelState.FAILED:
            error = ModelFailed(f"Model {self.name} cannot serve: its workers fail.")
            error.retry_after_s = max(1.0, self.pool.retry_at - time.monotonic())
            raise error
        if self.pool.wanted == 0:
            raise NoWorkers(f"Model {self.name} has no worker.")

    def _check_ticket(self) -> None:
        """Where the model asks for it, only what a free worker begins at once is taken."""
        if self._is_catching_up:
            return
        # Those that came in this turn of the loop wait, too, though only for its end.
        if len(self.batcher.waiting) >= sum(room for _, room in self.pool.free_workers()):
            raise QueueFull("No worker is free, and useJobTicket lets nothing wait.")

    def take_slot(self, size: int, deadline: float, then: Callable[[Slot | None], None]) -> None:
        """Room in the request arena: `then` gets a slot, or None when the deadline came first."""
        self._start_sweep()
        self.arena.take(size, deadline, then)

    def submit(self, job: Job) -> None:
        """Queue the job, which then gets its outcome, unless this raises (as check_open)."""
        try:
            if self.state is not ModelState.READY or not self.pool.wanted:
                self.check_open()
            if self.description.needs_idle_worker:
                self._check_ticket()
            self.batcher.submit(job)
        except TsdError:
            self._release(job)
            raise
        if self._sweep is None:
            self._start_sweep()

    def cancel(self, job: Job) -> None:
        """Nobody waits for the answer any more. A job that has not left is not run."""
        if job.is_done:
            return
        job.is_done = True
        if job.is_running:
            self.pool.cancel(job)
        else:
            self.batcher.remove(job)
            self._release(job)
        self._tell_watchers()

    # The operator's verbs; see operations.py.

    def scale(self, least: int, most: int) -> None:
        """Ask for workers, up to `least` and down to `most`; they come and go by themselves."""
        least, most = self.pool.plan.capped(least), self.pool.plan.capped(most)
        self.min_workers, self.max_workers = least, most
        workers = workers_between(self.pool.wanted, least, most)
        if workers > 0 and self.pool.serving == 0 and self.state is ModelState.READY:
            self._move(ModelState.LOADING)
        self.pool.scale(workers)

    def rebatch(self, size: int | None, delay_ms: int | None) -> None:
        """Other limits of batches, where they are said; workers are replaced one by one."""
        self.description = description = self.description.rebatched(size, delay_ms)
        self.inline_bytes = inline_limit(description.batch_size)
        for job in self.open_jobs:
            # As many of these as a batch may have now could be too much for one notice.
            if job.slot is None and job.inline_bytes > self.inline_bytes:
                job.is_alone = True
        self.pool.renew(self.pool.plan.with_batch_size(description.batch_size))
        rows, delay_s = self.pool.plan.rows, description.batch_delay_s
        self._bounds = replace(self._bounds, max_rows=rows, max_wait_s=delay_s)
        waiting = self.batcher.limits.max_waiting
        self.batcher.limits = replace(self._bounds, max_waiting=waiting)
        self.batcher.wake()

    async def wait_for_workers(self, on_change: Callable[[], None] | None = None) -> None:
        """Return when those that are wanted serve; StartFailed at the first failed start."""
        failed_before = self.pool.counts.failed_starts
        while not self.pool.is_as_wanted:
            if self.state in (ModelState.DRAINING, ModelState.UNLOADED):
                raise Draining(f"Model {self.name} was unregistered while it was loading.")
            if self.pool.counts.failed_starts > failed_before:
                raise self._start_failed()
            if on_change is not None:
                on_change()
            await self._changed()
        if on_change is not None:
            on_change()

    async def drain(self, timeout_s: float) -> None:
        """Take nothing new, finish what has begun, stop the workers; then all is given back."""
        if self.state not in (ModelState.DRAINING, ModelState.UNLOADED):
            self._move(ModelState.DRAINING)
        try:
            async with asyncio.timeout(timeout_s):
                while self.open_jobs:
                    await self._changed()
        except TimeoutError:
            log.warning("drain timed out: %d requests fail", len(self.open_jobs), **self._about)
        self.pool.stop()
        for job in self.open_jobs:
            self._fail(job, Draining(f"Model {self.name} is being unregistered."))
        while self.pool.workers:
            await self._changed()
        if self._sweep is not None:
            self._sweep.cancel()
        self.arena.close()
        if self.state is not ModelState.UNLOADED:
            self._move(ModelState.UNLOADED)

    async def wait_until_settled(self) -> None:
        """Return when the model is ready or failed."""
        while self.state is ModelState.LOADING and self.pool.wanted:
            await self._changed()

    def snapshot(self) -> ModelSnapshot:
        """The figures for the metrics page."""
        states = dict.fromkeys((state.value for state in WorkerState), 0)
        for worker in self.pool.workers.values():
            states[worker.state.value] += 1
        return ModelSnapshot(
            name=self.name,
            version=self.version,
            figures=self.figures,
            queue_depth=len(self.batcher.waiting),
            workers=states,
            restarts=self.pool.counts.restarts,
            is_ready=self.state is ModelState.READY,
            arena_bytes=self.arena.slots.used_bytes,
            gpu_bytes={
                (str(worker.number), worker.arguments.device, kind): held
                for worker in self.pool.workers.values()
                for kind, held in worker.gpu_bytes.items()
            },
        )

    # What the batcher and the pool say.

    def free_workers(self) -> list[tuple[WorkerHandle, int]]:
        """For the sequences, which choose their workers themselves."""
        return self.pool.free_workers()

    def give_to(self, worker: WorkerHandle, jobs: list[Job]) -> None:
        """Hand a batch to that worker."""
        self._count_leaving(jobs)
        self.pool.give_to(worker, jobs)

    def _give(self, jobs: list[Job]) -> None:
        self._count_leaving(jobs)
        self.pool.give(jobs)

    def _count_leaving(self, jobs: list[Job]) -> None:
        now = time.monotonic()
        self.figures.queue_s.observe_all([now - job.queued_at for job in jobs])
        self.figures.batch_rows.observe(len(jobs))

    def _on_free(self) -> None:
        if self.batcher.waiting:
            self.batcher.wake()

    def _on_batch(self, batch: Batch) -> None:
        now = time.monotonic()
        self.figures.count_answered(batch.answered, batch.left_at, now)
        if self.description.is_stateful:
            for job in batch.jobs:
                self.batcher.finished(job)
        if self._is_catching_up and len(self.batcher.waiting) < self._bounds.max_waiting:
            self._bound_again()
        self.figures.overhead_ms = 1000 * (now - batch.answered_at)
        self._tell_watchers()

    def _bound_again(self) -> None:
        """It has caught up, or has had its time."""
        self._is_catching_up = False
        self.batcher.limits = self._bounds

    def _on_orphans(self, worker: WorkerHandle, batches: list[Batch]) -> None:
        """What was running is tried once more, each job alone: the first batch, or all of them."""
        again: list[Job] = []
        for position, batch in enumerate(batches):
            was_running = position == 0 or worker.overlaps or worker.launches_ahead
            for job in batch.jobs:
                job.is_running = False
                if self._may_run_again(job, was_running=was_running):
                    again.append(job)
                elif job.is_done:
                    self._release(job)
                else:
                    self._fail(job, WorkerDied("Worker died.", why=worker.exit_text))
        for job in self.batcher.forget_worker(worker):
            self._fail(job, WorkerDied("Worker died.", why=worker.exit_text))
        if again:
            self.batcher.requeue(again)

    def _may_run_again(self, job: Job, *, was_running: bool) -> bool:
        # A sequence has lost its state with the worker, and a begun answer cannot begin again.
        if job.is_done or job.has_begun or job.sequence is not None:
            return False
        if was_running:
            job.attempts += 1
            if job.attempts >= MAX_ATTEMPTS or not self.description.is_idempotent:
                return False
            job.is_alone = True
            self.figures.retries += 1
        return True

    def _on_change(self) -> None:
        self._follow_pool()
        if self._sweep is None and self._needs_sweep():
            self._start_sweep()
        self._tell_watchers()

    def _tell_watchers(self) -> None:
        if self._watchers:
            watchers, self._watchers = self._watchers, []
            for watcher in watchers:
                if not watcher.done():
                    watcher.set_result(None)

    def _follow_pool(self) -> None:
        if self.state in (ModelState.DRAINING, ModelState.UNLOADED):
            return
        if self.pool.is_failed and self.state is not ModelState.FAILED:
            self._move(ModelState.FAILED)
            self._fail_waiting()
        elif self.pool.serving and self.state is not ModelState.READY:
            self._move(ModelState.READY)
        self._tell_degraded()

    def _tell_degraded(self) -> None:
        """The model stays ready while its requests wait for the next worker; the log tells it."""
        is_ready = self.state is ModelState.READY
        is_degraded = is_ready and self.pool.wanted > 0 and self.pool.serving == 0
        if is_degraded == self._is_degraded:
            return
        self._is_degraded = is_degraded
        if is_degraded:
            log.warning(
                "model %s: no worker serves", self.name, **self._about, code="model_degraded"
            )
        elif is_ready and self.pool.serving:
            log.info("model %s: served again", self.name, **self._about, code="model_ready")

    # Deadlines, and the end of a job.

    def _start_sweep(self) -> None:
        if self._sweep is None:
            self._sweep = self._loop.call_later(SWEEP_S, self._on_sweep)

    def _on_sweep(self) -> None:
        self._sweep = None
        now = time.monotonic()
        self.arena.sweep(now)
        self.batcher.sweep(now)
        hung = self.pool.sweep(now)
        for job in hung:
            if not job.is_done:
                self._fail(job, WorkerHung("Worker died."))
        self._fail_late([job for job in self.open_jobs if job.deadline <= now])
        self.batcher.remove_done()
        if self._needs_sweep():
            self._start_sweep()

    def _fail_late(self, jobs: list[Job]) -> None:
        for job in jobs:
            self._fail(job, DeadlinePassed("No answer within the request's deadline."))
            self.pool.cancel(job)
        if jobs:
            text, about = "%d requests had no answer within their deadline", self._about
            ids = request_ids(jobs)
            log.warning(text, len(jobs), **about, request_id=ids, code="deadline_passed")

    def _needs_sweep(self) -> bool:
        """Whether anything here has a time by which it must have happened."""
        if self.state is ModelState.UNLOADED:
            return False
        return bool(self.batcher.waiting or self.arena.has_waiters or self.pool.has_timeouts)

    def _fail(self, job: Job, error: TsdError) -> None:
        """An outcome that no worker gave. A running job's slot stays until its batch is back."""
        job.is_done = True
        if not job.is_running:
            self._release(job)
        job.failed(error)
        self._on_change()

    def _fail_waiting(self) -> None:
        for job in list(self.batcher.waiting):
            if not job.is_done:
                self._fail(job, ModelFailed(f"Model {self.name} cannot serve: its workers fail."))
        self.batcher.remove_done()

    def _release(self, job: Job) -> None:
        if job.slot is not None:
            self.arena.give_back(job.slot)
            job.slot = None

    def _changed(self) -> asyncio.Future[None]:
        watcher: asyncio.Future[None] = self._loop.create_future()
        self._watchers.append(watcher)
        return watcher

    def _start_failed(self) -> StartFailed:
        last = self.pool.last_error
        lines = last.traceback.strip().splitlines() if last else []
        error = StartFailed(
            f"Failed to start workers for model {self.name} version: {self.version}",
            why=(lines[-1] if lines else last.cause if last else ""),
            fix="see the traceback; the model's code or files must be mended",
            traceback=last.traceback if last else "",
        )
        if lines and ("MemoryError" in lines[-1] or "CUDA" in lines[-1]):
            error.torchserve_status = HTTPStatus.INSUFFICIENT_STORAGE.value
        return error

    def _move(self, new: ModelState) -> None:
        assert new in MOVES[self.state], f"{self.name}: {self.state} -> {new}"
        tell = log.error if new is ModelState.FAILED else log.info
        words = (self.name, self.state.value, new.value)
        tell("model %s: %s -> %s", *words, **self._about, code=f"model_{new.value}")
        self.state = new
        if new is ModelState.READY and self._is_catching_up:
            self._loop.call_later(CATCH_UP_S, self._bound_again)


def workers_between(wanted: int, least: int, most: int) -> int:
    """TorchServe's rule of scaling: brought up to the least, cut down to the most."""
    return max(least, min(wanted, most))
