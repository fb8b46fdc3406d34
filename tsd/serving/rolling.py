"""Workers replaced one by one, after the model has got another batch size.

Each goes when its replacement serves; where there is no room for both, before. Which worker is
next is decided here; pool.py starts and stops them."""

from __future__ import annotations

from collections.abc import Iterable

from tsd.serving.plan import WorkerPlan
from tsd.serving.worker_handle import WorkerHandle, WorkerState


def outdated(workers: Iterable[WorkerHandle], plan: WorkerPlan) -> list[WorkerHandle]:
    """Those that were told another batch size, and are not going yet."""
    return [w for w in workers if plan.is_outdated(w.arguments) and not is_going(w)]


def is_going(worker: WorkerHandle) -> bool:
    """Whether it takes nothing new any more."""
    return worker.state is WorkerState.STOPPING


def surplus(workers: Iterable[WorkerHandle], plan: WorkerPlan, wanted: int) -> int:
    """One more than wanted while there are outdated ones, where there is room for it."""
    has_room = plan.capped(wanted + 1) > wanted > 0
    return int(has_room and bool(outdated(workers, plan)))


def next_to_go(workers: list[WorkerHandle], plan: WorkerPlan, wanted: int) -> WorkerHandle | None:
    """The next one, once all that are to be there serve; until then nobody."""
    if len(workers) < wanted + surplus(workers, plan, wanted):
        return None
    if not all(worker.is_serving for worker in workers):
        return None
    return next(iter(outdated(workers, plan)), None)
