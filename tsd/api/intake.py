"""What of a request crosses: its headers, and its body; small ones go into their notice, others
into the arena."""

from __future__ import annotations

from abc import ABC, abstractmethod

from tsd.errors import NoRoom, TsdError
from tsd.http.message import Request
from tsd.ipc.layout import slot_bytes, write_head
from tsd.ipc.segment import Slot
from tsd.serving.job import Job, JobAnswer
from tsd.serving.model import Model
from tsd.serving.submission import job_ids

# How a request was framed is not the handler's business.
HOP_HEADERS = frozenset((b"transfer-encoding", b"expect"))


class Intake(ABC):
    """Receives one body into place. Whoever extends it gets the job, or why there is none."""

    __slots__ = ("_deadline", "_head", "_model", "_request", "_slot")

    def __init__(self, request: Request, model: Model, deadline: float) -> None:
        # None from when nobody waits for an answer any more.
        self._request: Request | None = request
        self._model = model
        self._deadline = deadline
        self._slot: Slot | None = None
        self._head = b""

    @abstractmethod
    def _submit(self, job: Job) -> None:
        """The body is in place."""

    @abstractmethod
    def _refuse(self, error: TsdError) -> None:
        """There is no room for it."""

    def _receive(self, request: Request, head: bytes) -> None:
        """Find the place of the body, and have it received there."""
        self._head = head
        length = request.content_length
        if request.then is not None:
            # Somebody had to look into it before.
            self._on_body_elsewhere(request)
        elif length is None:
            # How long it is, is known at its end.
            request.receive(self._on_body_elsewhere)
        elif len(head) + length <= self._model.inline_bytes:
            # The limit can change until it is there, with the model's batch size.
            request.receive(self._on_body_elsewhere)
        else:
            size = slot_bytes(len(head), length)
            self._model.take_slot(size, self._deadline, self._on_room)

    def _on_room(self, slot: Slot | None) -> None:
        request = self._take_room(slot)
        if request is not None and slot is not None:
            room = self._place_head(slot, request.content_length or 0)
            request.receive(self._on_body, room=room)

    def _on_body_elsewhere(self, request: Request) -> None:
        length = len(request.body)
        if len(self._head) + length <= self._model.inline_bytes:
            self._on_body(request)
            return
        size = slot_bytes(len(self._head), length)
        self._model.take_slot(size, self._deadline, self._on_room_for_received)

    def _on_room_for_received(self, slot: Slot | None) -> None:
        request = self._take_room(slot)
        if request is not None and slot is not None:
            room = self._place_head(slot, len(request.body))
            room[:] = request.body
            request.body = room
            self._on_body(request)

    def _take_room(self, slot: Slot | None) -> Request | None:
        """The request, if it is still there and has got room; else it is refused."""
        self._slot = slot
        if self._request is None:
            self._give_slot_back()
        elif slot is None:
            self._refuse(NoRoom("No room for the request's body."))
        return self._request

    def _place_head(self, slot: Slot, length: int) -> memoryview:
        """Write the head block into the slot; the room for the body behind it."""
        return write_head(self._model.arena_view, slot.offset, self._head, length)

    def _on_body(self, request: Request) -> None:
        slot, self._slot = self._slot, None
        self._submit(
            Job(next(job_ids), self._head, request.body, slot, self._deadline, _unanswered)
        )

    def _give_slot_back(self) -> None:
        if self._slot is not None:
            self._model.arena.give_back(self._slot)
            self._slot = None


def _unanswered(_job: Job, _outcome: JobAnswer | TsdError) -> None:
    raise AssertionError("whoever submits the job says where its outcome goes")


def request_headers(request: Request) -> list[tuple[bytes, bytes]]:
    """What the handler sees: a length of 0 where no body came, and nothing of how it came."""
    if request.content_length == 0:
        if request.header(b"content-length") is None:
            return [(b"content-length", b"0"), *request.headers]
    elif request.content_length is None or request.head.expects_continue:
        return [pair for pair in request.headers if pair[0].lower() not in HOP_HEADERS]
    return request.headers
