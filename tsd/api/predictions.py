"""TorchServe's inference routes: from a path to a job, and from its outcome to an answer.

The daemon looks at the path only; the body goes to the worker as it came. No coroutine, future
or timer is made for a request on this path."""

from __future__ import annotations

import time
from itertools import count

from tsd.api import answers
from tsd.errors import NoRoom, NoWorkers, QueueFull, TsdError, UnknownRoute
from tsd.http.message import Request, Response
from tsd.ipc.layout import body_offset, pack_fields, slot_bytes, unpack_fields
from tsd.ipc.segment import Slot
from tsd.serving.job import Job, JobAnswer
from tsd.serving.model import Model
from tsd.serving.registry import Registry

NO_WORKER = (
    'Model "{name}" {version}has no worker to serve inference request. Please use scale workers '
    "API to add workers. If this is a sequence inference, please check if it is closed, or "
    "expired; or exceeds maxSequenceJobQueueSize"
)

# These say how the answer is framed, which is this server's business and not the handler's.
FRAMING_HEADERS = frozenset(
    (b"connection", b"content-length", b"keep-alive", b"transfer-encoding", b"x-request-id")
)


class Predictions:
    """The routes; one `_Prediction` lives for each request."""

    def __init__(self, registry: Registry) -> None:
        self._registry = registry
        self._job_ids = count(1)

    def predict(self, request: Request, segments: list[str]) -> None:
        """`/predictions/{model}[/{version}[/more…]]`, with any method."""
        self._start(request, segments, b"False")

    def explain(self, request: Request, segments: list[str]) -> None:
        """`/explanations/{model}[/{version}[/more…]]`, with any method."""
        self._start(request, segments, b"True")

    def _start(self, request: Request, segments: list[str], explain: bytes) -> None:
        if len(segments) < 2 or not segments[1]:
            raise UnknownRoute("Requested resource is not found, please refer to API document.")
        version = segments[2] if len(segments) > 2 and segments[2] else None
        model = self._registry.find(segments[1], version)
        fields = [(b"explain", explain), (b"url_path", "/".join(segments[3:]).encode())]
        _Prediction(request, model, next(self._job_ids), version).start(request, fields)


class _Prediction:
    """One request on its way: body into place, job, answer."""

    __slots__ = (
        "_asked_version",
        "_deadline",
        "_head",
        "_job",
        "_job_id",
        "_model",
        "_request",
        "_request_id",
        "_slot",
    )

    def __init__(
        self, request: Request, model: Model, job_id: int, asked_version: str | None
    ) -> None:
        self._request: Request | None = request
        self._model = model
        self._job_id = job_id
        self._asked_version = asked_version
        self._request_id = answers.new_request_id()
        self._deadline = request.accepted_at + model.default_deadline_s
        self._slot: Slot | None = None
        self._job: Job | None = None
        self._head = b""

    def start(self, request: Request, fields: list[tuple[bytes, bytes]]) -> None:
        """Find the place of the body: in a notice, or in the arena when it is larger."""
        model = self._model
        try:
            model.check_open()
        except TsdError as error:
            self._refuse(error)
            return
        length = request.content_length
        headers = request.headers if length != 0 else _with_length(request)
        self._head = pack_fields(self._request_id.encode("ascii"), headers + fields)
        request.on_disconnect = self._on_disconnect
        if length is None:
            request.receive(self._on_chunked_body)
        elif len(self._head) + length <= model.inline_bytes:
            request.receive(self._on_body)
        else:
            model.take_slot(slot_bytes(len(self._head), length), self._deadline, self._on_room)

    def _on_room(self, slot: Slot | None) -> None:
        request = self._take_room(slot)
        if request is not None and slot is not None:
            room = self._place_head(slot, request.content_length or 0)
            request.receive(self._on_body, room=room)

    def _on_chunked_body(self, request: Request) -> None:
        length = len(request.body)
        if len(self._head) + length <= self._model.inline_bytes:
            self._on_body(request)
            return
        size = slot_bytes(len(self._head), length)
        self._model.take_slot(size, self._deadline, self._on_room_for_chunked)

    def _on_room_for_chunked(self, slot: Slot | None) -> None:
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
        view, size = self._model.arena_view, len(self._head)
        view[slot.offset : slot.offset + size] = self._head
        begin = slot.offset + body_offset(size)
        return view[begin : begin + length]

    def _on_body(self, request: Request) -> None:
        slot, self._slot = self._slot, None
        job = Job(self._job_id, self._head, request.body, slot, self._deadline, self._finish)
        self._job = job
        try:
            self._model.submit(job)
        except TsdError as error:
            self._refuse(error)

    def _finish(self, _job: Job, outcome: JobAnswer | TsdError) -> None:
        if isinstance(outcome, TsdError):
            self._refuse(outcome)
            return
        head = answers.head(self._request_id)
        reason = b""
        if outcome.head:
            reason, more = _handler_headers(outcome.head)
            head += more
        is_error = outcome.status >= answers.FIRST_ERROR
        self._respond(
            Response(outcome.status, outcome.body, head, reason, is_error, outcome.release)
        )

    def _refuse(self, error: TsdError) -> None:
        self._give_slot_back()
        self._model.figures.count_error(error.code)
        if isinstance(error, NoWorkers | QueueFull):
            version = f'Version {self._asked_version}" ' if self._asked_version else ""
            said = type(error)(NO_WORKER.format(name=self._model.name, version=version))
            said.retry_after_s = error.retry_after_s
            error = said
        self._respond(answers.error_answer(error, request_id=self._request_id))

    def _respond(self, response: Response) -> None:
        request = self._forget_request()
        if request is not None:
            figures = self._model.figures
            figures.requests += 1
            figures.latency_s.observe(time.monotonic() - request.accepted_at)
            request.respond(response)

    def _on_disconnect(self) -> None:
        job = self._job
        self._forget_request()
        self._give_slot_back()
        if job is not None:
            self._model.cancel(job)

    def _forget_request(self) -> Request | None:
        """Rings of references would keep bodies and slots until the collector comes by."""
        request, self._request, self._job = self._request, None, None
        if request is not None:
            request.on_disconnect = None
        return request

    def _give_slot_back(self) -> None:
        if self._slot is not None:
            self._model.arena.give_back(self._slot)
            self._slot = None


def _with_length(request: Request) -> list[tuple[bytes, bytes]]:
    """TorchServe's handlers see a length of 0 where the client sent no body and no length."""
    if request.header(b"content-length") is None:
        return [*request.headers, (b"content-length", b"0")]
    return request.headers


def _handler_headers(block: bytes) -> tuple[bytes, bytes]:
    """Reason phrase and header lines that the handler set; what could split the answer is cut."""
    if b"\r" in block or b"\n" in block:
        block = block.replace(b"\r", b" ").replace(b"\n", b" ")
    reason, pairs = unpack_fields(block)
    lines = [b"%b: %b\r\n" % pair for pair in pairs if pair[0].lower() not in FRAMING_HEADERS]
    return reason, b"".join(lines)
