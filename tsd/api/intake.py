"""What of a request crosses: its headers, and its body; small ones go into their notice, others
into the arena."""

from __future__ import annotations

import time
from abc import abstractmethod
from collections.abc import Callable

from tsd.errors import NoRoom, TsdError
from tsd.http.message import Request
from tsd.ipc.layout import slot_bytes
from tsd.ipc.segment import Slot
from tsd.serving.job import Job
from tsd.serving.model import Model

# How a request was framed is not the handler's business.
HOP_HEADERS = frozenset((b"transfer-encoding", b"expect"))


class Intake(Job):
    """A job whose body is received into place, and which is queued then."""

    __slots__ = ("_model", "_request")

    _model: Model
    # None from when nobody waits for an answer any more.
    _request: Request | None

    @abstractmethod
    def _refuse(self, error: TsdError) -> None:
        """It cannot be queued, or there is no room for its body."""

    def _receive(self, request: Request) -> None:
        """Find the place of the body, have it received there, and queue the job."""
        length = request.head.content_length
        if request.then is not None:
            # Somebody had to look into it before.
            self._on_body_elsewhere(request)
        elif length is None:
            # How long it is, is known at its end.
            request.receive(self._on_body_elsewhere)
        elif self.head_bytes + length <= self._model.inline_bytes:
            # The limit can change until it is there, with the model's batch size.
            request.receive(self._on_body_elsewhere)
        else:
            self._take_slot(length, self._on_room)

    def _take_slot(self, length: int, then: Callable[[Slot | None], None]) -> None:
        self._model.take_slot(slot_bytes(self.head_bytes, length), self.deadline, then)

    def _on_room(self, slot: Slot | None) -> None:
        request = self._taker(slot)
        if request is not None and slot is not None:
            room = self.place(self._model.arena_view, slot, request.content_length or 0)
            request.receive(self._on_body, room=room)

    def _on_body_elsewhere(self, request: Request) -> None:
        length = len(request.body)
        if self.head_bytes + length > self._model.inline_bytes:
            self._take_slot(length, self._on_room_for_received)
        else:
            self._on_body(request)

    def _on_room_for_received(self, slot: Slot | None) -> None:
        request = self._taker(slot)
        if request is not None and slot is not None:
            room = self.place(self._model.arena_view, slot, len(request.body))
            room[:] = request.body
            request.body = room
            self._on_body(request)

    def _taker(self, slot: Slot | None) -> Request | None:
        """The request, if it is still there and has got room; else it is refused."""
        if self._request is None and slot is not None:
            self._model.arena.give_back(slot)
        elif slot is None:
            self._refuse(NoRoom("No room for the request's body."))
        return self._request

    def _on_body(self, request: Request) -> None:
        self.body = request.body
        self._submit(time.monotonic())

    def _submit(self, now: float) -> None:
        self.queued_at = now
        try:
            self._model.submit(self)
        except TsdError as error:
            self._refuse(error)

    def _withdraw(self) -> None:
        """Nobody waits for the answer any more: leave the queue, or give the room back."""
        if self.queued_at:
            self._model.cancel(self)
        elif self.slot is not None:
            self._model.arena.give_back(self.slot)
            self.slot = None


def request_headers(request: Request) -> list[tuple[bytes, bytes]]:
    """What the handler sees: a length of 0 where no body came, and nothing of how it came."""
    if request.content_length == 0:
        if request.header(b"content-length") is None:
            return [(b"content-length", b"0"), *request.headers]
    elif request.content_length is None or request.head.expects_continue:
        return [pair for pair in request.headers if pair[0].lower() not in HOP_HEADERS]
    return request.headers
