"""Job and Batch: plain data on its way to a worker and back."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from itertools import count, islice
from typing import NamedTuple

from tsd.errors import TsdError
from tsd.ipc.layout import head_bytes, write_head
from tsd.ipc.segment import Slot
from tsd.metrics import Asked

LOGGED_IDS = 128

job_ids = count(1)
"""Numbers for the jobs of this daemon, whatever door they came by."""


class AnswerPart(NamedTuple):
    """A piece of an answer that goes out before the rest is known.

    `status` and `head` (an answer's head block) count in the first one only."""

    status: int
    head: bytes
    body: bytes


class Job(ABC):
    """One inference that a request asked for. Whoever asks extends this, and gets one outcome.

    The bytes lie in a slot of the request arena, or, when `slot` is None, in `body`. `fields`:
    what of the head block follows the request id; jobs with equal ones best share one object."""

    # What every job has stands in slots, the rest in the class until it is set.
    __slots__ = (
        *("__dict__", "accepted_at", "asked", "body", "deadline", "fields", "id", "is_done"),
        *("is_running", "queued_at", "request_id", "slot"),
    )

    # It is counted here with its answer; None: not at all.
    asked: Asked | None
    slot: Slot | None
    sequence: str | None = None
    # Told of the answer's head block before the answer goes on.
    on_head: Callable[[bytes], None] | None = None
    attempts = 0
    is_alone = False
    # A piece of the answer has gone out: no other worker can begin again.
    has_begun = False

    def __init__(
        self,
        request_id: bytes,
        fields: bytes,
        body: bytes | bytearray | memoryview,
        accepted_at: float,
        deadline: float,
    ) -> None:
        self.id = next(job_ids)
        self.request_id = request_id
        self.fields = fields
        self.body = body
        self.slot = None
        # Instants of time.monotonic(); 0: not queued yet.
        self.accepted_at = accepted_at
        self.queued_at = 0.0
        self.deadline = deadline
        self.asked = None
        self.is_running = False
        self.is_done = False

    @property
    def head_bytes(self) -> int:
        """The size of its head block."""
        return head_bytes(self.request_id, self.fields)

    @property
    def inline_bytes(self) -> int:
        """What it takes of a notice, where it has no slot."""
        return self.head_bytes + len(self.body)

    def place(self, arena: memoryview, slot: Slot, body_bytes: int) -> memoryview:
        """Take that slot of the request arena; the room in it for the body is what comes back."""
        head = b"%b\0%b" % (self.request_id, self.fields)
        self.slot = slot
        self.body = write_head(arena, slot.offset, head, body_bytes)
        return self.body

    @abstractmethod
    def answered(
        self,
        body: bytes | memoryview,
        status: int = 200,
        head: bytes = b"",
        release: Callable[[], None] | None = None,
    ) -> None:
        """Its outcome: what the handler gave. `head`: an answer's head block (layout.py).

        Where `body` lies in shared memory, `release` must be called once it has been sent."""

    @abstractmethod
    def failed(self, error: TsdError) -> None:
        """Its outcome: why there is no answer."""

    @abstractmethod
    def part_came(self, part: AnswerPart) -> None:
        """A piece of the answer, before the rest."""


@dataclass(slots=True)
class Batch:
    """Jobs that share one forward pass; `grant`: where their large answers may be written.

    `sent_at`: when it began, or gave a piece of an answer. `unread`: answers that still lie in the
    grant; `has_asked`, `is_waiting`: for a larger one. `answered`: jobs that got their answer."""

    id: int
    jobs: list[Job]
    grant: Slot | None
    sent_at: float
    answered_at: float = 0.0
    unread: int = 0
    has_asked: bool = False
    is_waiting: bool = False
    answered: list[Job] = field(default_factory=list)
    # When it left the queue.
    left_at: float = 0.0

    def __post_init__(self) -> None:
        """It leaves the queue and is sent at once; `sent_at` moves on."""
        self.left_at = self.sent_at


def request_ids(jobs: Iterable[Job]) -> str:
    """The ids of their requests, for a log line; of very many only the first."""
    return ",".join(job.request_id.decode("latin-1") for job in islice(jobs, LOGGED_IDS))
