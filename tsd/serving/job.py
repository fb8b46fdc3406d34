"""Job and Batch: plain data on its way to a worker and back."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from itertools import islice
from typing import NamedTuple

from tsd.errors import TsdError
from tsd.ipc.segment import Slot

LOGGED_IDS = 128


class JobAnswer(NamedTuple):
    """What the handler gave for one job.

    `head` is an answer's head block (layout.py). Where `body` lies in shared memory, `release`
    must be called once it has been sent."""

    status: int
    head: bytes
    body: bytes | memoryview
    release: Callable[[], None] | None = None


class AnswerPart(NamedTuple):
    """A piece of an answer that goes out before the rest is known.

    `status` and `head` (an answer's head block) count in the first one only."""

    status: int
    head: bytes
    body: bytes


Finish = Callable[["Job", JobAnswer | TsdError], None]
OnPart = Callable[["Job", AnswerPart], None]


class Job:
    """One inference that a request asked for. Its one outcome goes to `finish`.

    The bytes lie in a slot of the request arena, or, when `slot` is None, in `body`. Pieces of
    the answer go to `on_part` before; without it they are dropped."""

    __slots__ = (
        "attempts",
        "body",
        "deadline",
        "finish",
        "has_begun",
        "head",
        "id",
        "is_alone",
        "is_done",
        "is_running",
        "left_at",
        "on_part",
        "queued_at",
        "sequence",
        "slot",
    )

    def __init__(
        self,
        job_id: int,
        head: bytes,
        body: bytes | bytearray | memoryview,
        slot: Slot | None,
        deadline: float,
        finish: Finish,
    ) -> None:
        self.id = job_id
        self.head = head
        self.body = body
        self.slot = slot
        self.deadline = deadline
        self.finish = finish
        self.on_part: OnPart | None = None
        self.sequence: str | None = None
        self.queued_at = self.left_at = 0.0
        self.attempts = 0
        self.is_alone = False
        self.is_running = False
        # A piece of the answer has gone out: no other worker can begin again.
        self.has_begun = False
        self.is_done = False

    @property
    def request_id(self) -> str:
        """The id that the client is told, and that log lines have."""
        return self.head.partition(b"\0")[0].decode("latin-1")


@dataclass(slots=True)
class Batch:
    """Jobs that share one forward pass; `grant`: where their large answers may be written.

    `unread`: answers that still lie in the grant; `has_asked`, `is_waiting`: for a larger one."""

    id: int
    jobs: list[Job]
    grant: Slot | None
    sent_at: float
    answered_at: float = 0.0
    unread: int = 0
    has_asked: bool = False
    is_waiting: bool = False


def request_ids(jobs: Iterable[Job]) -> str:
    """The ids of their requests, for a log line; of very many only the first."""
    return ",".join(job.request_id for job in islice(jobs, LOGGED_IDS))
