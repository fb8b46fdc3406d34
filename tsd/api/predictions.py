"""TorchServe's inference routes: from a path to a job, and from its outcome to an answer.

The daemon looks at the path only; the body goes to the worker as it came. No coroutine, future
or timer is made for a request on this path. How a body finds its place is in intake.py."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from urllib.parse import parse_qsl
from uuid import uuid4

from tsd.api import answers, forms, openapi
from tsd.api.intake import Intake, request_headers
from tsd.api.routes import PredictionHandler
from tsd.errors import BadRequest, NoWorkers, QueueFull, TsdError, UnknownRoute
from tsd.http.message import Meaning, Request, Response, Stream
from tsd.ipc.layout import PARAMETER, pack_fields, unpack_fields
from tsd.serving.job import AnswerPart
from tsd.serving.model import Model
from tsd.serving.registry import Named, Registry
from tsd.settings import ServingSettings

NO_WORKER = (
    'Model "{name}" {version}has no worker to serve inference request. Please use scale workers '
    "API to add workers. If this is a sequence inference, please check if it is closed, or "
    "expired; or exceeds maxSequenceJobQueueSize"
)
MAX_PARAMETERS = 64

# How the answer is framed, and what TorchServe always says, is not the handler's business.
OWN_HEADERS = frozenset(
    (
        *(b"connection", b"content-length", b"keep-alive", b"transfer-encoding", b"x-request-id"),
        *(b"pragma", b"cache-control", b"expires"),
    )
)
STREAM_NEXT = b"ts_stream_next"

Fields = list[tuple[bytes, bytes]]


class Predictions:
    """The routes; one `Prediction` lives for each request."""

    def __init__(self, registry: Registry, settings: ServingSettings) -> None:
        self._registry = registry
        self._settings = settings
        # A loop holds its own only weakly.
        self._finding: set[asyncio.Future[None]] = set()

    @property
    def routes(self) -> dict[str, PredictionHandler]:
        """The first part of a path, or a pattern of all of it -> handler; see routes.py."""
        return {
            "predictions": self.predict,
            "explanations": self.explain,
            "invocations": self.invoke,
            "/models/{model}/invoke": self.invoke_model,
            "/v1/models/{model}:predict": self.kserve_v1,
            "/v1/models/{model}:explain": self.kserve_v1,
            "/v2/models/{model}/infer": self.kserve_v2,
            "/v2/models/{model}/explain": self.kserve_v2,
            "/{model}/predict": self.predict_by_name,
            "/{model}/{version}/predict": self.predict_by_name,
        }

    def predict(self, request: Request, segments: list[str]) -> None:
        """`/predictions/{model}[/{version}[/more…]]`, with any method."""
        self._start(request, segments, b"False")

    def explain(self, request: Request, segments: list[str]) -> None:
        """`/explanations/{model}[/{version}[/more…]]`, with any method."""
        self._start(request, segments, b"True")

    def invoke(self, request: Request, segments: list[str]) -> None:
        """SageMaker's `/invocations`: the model is a parameter, the only one, or in the form."""
        if len(segments) > 1:
            raise UnknownRoute("Requested resource is not found, please refer to API document.")
        parameters = _parameters(request)
        names = {model.name for model in self._registry if model.is_from_start}
        name = dict(parameters).get("model_name") or (names.pop() if len(names) == 1 else "")
        if name:
            self._with_parameters(request, name, None, parameters)
        else:
            request.receive(lambda read: self._find_in_form(read, parameters))

    def invoke_model(self, request: Request, segments: list[str]) -> None:
        """SageMaker's `/models/{model}/invoke` of several models behind one address."""
        self._with_parameters(request, segments[1], None, _parameters(request))

    def predict_by_name(self, request: Request, segments: list[str]) -> None:
        """`/{model}[/{version}]/predict`, which TorchServe has from its predecessor."""
        version = segments[1] if len(segments) > 2 else None
        self._with_parameters(request, segments[0], version, _parameters(request))

    def kserve_v1(self, request: Request, segments: list[str]) -> None:
        """KServe's `/v1/models/{model}:predict` and `:explain`; the envelope knows the bodies."""
        name, _, verb = segments[2].rpartition(":")
        fields = [(b"explain", _true_or_false(verb == "explain"))]
        request.head.meaning = self._begin(request, name, None, fields)

    def kserve_v2(self, request: Request, segments: list[str]) -> None:
        """KServe's `/v2/models/{model}/infer` and `/explain`."""
        is_explain = segments[3] == "explain"
        fields = [(b"explain", _true_or_false(is_explain))]
        request.head.meaning = self._begin(request, segments[2], None, fields)

    def _start(self, request: Request, segments: list[str], explain: bytes) -> None:
        if len(segments) < 2:
            raise UnknownRoute("Requested resource is not found, please refer to API document.")
        version = segments[2] if len(segments) > 2 and segments[2] else None
        fields = [(b"explain", explain), (b"url_path", "/".join(segments[3:]).encode())]
        request.head.meaning = self._begin(request, segments[1], version, fields)

    def _with_parameters(
        self,
        request: Request,
        name: str,
        version: str | None,
        parameters: list[tuple[str, str]],
    ) -> None:
        fields = [(PARAMETER + key.encode(), value.encode()) for key, value in parameters]
        self._begin(request, name, version, fields)

    def _begin(
        self, request: Request, name: str, version: str | None, fields: Fields
    ) -> Meaning | None:
        """Have it answered; how others with the same head are, where that is the same way."""
        named = self._registry.named(name, version)
        assert named.model is not None
        if request.method == "OPTIONS":
            request.respond(answers.json_answer(openapi.model_document(name)))
            return None
        if named.model.description.is_stateful:
            sequence, lines = _sequence(request, self._settings)
            packed = pack_fields([*request_headers(request), *fields, *lines])
            Ask(named, version, packed, sequence).begin(request)
            return None
        ask = Ask(named, version, pack_fields([*request_headers(request), *fields]))
        ask.begin(request)
        return ask.begin

    def _find_in_form(self, request: Request, parameters: list[tuple[str, str]]) -> None:
        """The body is here: look for the model's name in it, off the loop, if it is a form."""

        async def find() -> None:
            content_type = (request.header(b"content-type") or b"").decode("latin-1")
            try:
                name = await asyncio.to_thread(
                    forms.field, content_type, bytes(request.body), "model_name"
                )
                if not name:
                    raise BadRequest("Parameter model_name is required.")
                self._with_parameters(request, name, None, parameters)
            except TsdError as error:
                request.respond(answers.error_answer(error))

        finding = asyncio.ensure_future(find())
        self._finding.add(finding)
        finding.add_done_callback(self._finding.discard)


class Ask:
    """What a head asks for, as far as it is known without the body; found out once for all
    requests that have the same head."""

    __slots__ = ("_fields", "_named", "_sequence", "_version")

    def __init__(
        self, named: Named, version: str | None, fields: bytes, sequence: str | None = None
    ) -> None:
        self._named = named
        self._version = version
        self._fields = fields
        self._sequence = sequence

    def begin(self, request: Request) -> bool:
        """Have it answered; False where the model has gone meanwhile."""
        model = self._named.model
        if model is None:
            return False
        at = request.accepted_at
        prediction = Prediction(
            answers.new_request_id(), self._fields, request.body, at, at + model.default_deadline_s
        )
        if self._sequence is not None:
            prediction.sequence = self._sequence
        prediction.start(request, model, self._version)
        return True


class Prediction(Intake):
    """One request on its way: body into place, queue, answer."""

    __slots__ = ("_asked_version",)

    _asked_version: str | None
    _stream: Stream | None = None

    def start(self, request: Request, model: Model, asked_version: str | None) -> None:
        """Have the body received, unless the model takes nothing now."""
        self._request, self._model, self._asked_version = request, model, asked_version
        self.asked = model.figures.count_asked(asked_version)
        request.on_disconnect = self._on_disconnect
        # The usual is told apart at once: all of it is here, and small.
        if request.is_whole and self.inline_bytes <= model.inline_bytes:
            request.is_whole = False
            self._submit(self.accepted_at)
            return
        try:
            model.check_open()
        except TsdError as error:
            self._refuse(error)
        else:
            self._receive(request)

    def part_came(self, part: AnswerPart) -> None:
        """A piece of the answer; with the first one the client is told that more follow."""
        request = self._request
        if request is None:
            return
        if self._stream is None:
            reason, lines = _handler_headers(part.head) if part.head else (b"", b"")
            if STREAM_NEXT not in lines.lower():
                lines += b"%b: true\r\n" % STREAM_NEXT
            head = answers.head(self.request_id, lines)
            self._stream = request.stream(Response(part.status, b"", head, reason))
        self._stream.send(part.body)
        if self._stream.waiting_bytes > self._model.stream_buffer_bytes:
            # A client that does not read what it asked for must not fill the daemon's memory.
            self._stream.break_off()
            self._on_disconnect()

    def answered(
        self,
        body: bytes | memoryview,
        status: int = 200,
        head: bytes = b"",
        release: Callable[[], None] | None = None,
    ) -> None:
        """As of every job: the answer goes to the client, or the last piece of it."""
        if self._stream is not None:
            self._end_stream(self._stream, body, release)
            return
        lines = answers.head(self.request_id)
        reason = b""
        if head:
            reason, more = _handler_headers(head)
            lines += more
        request, self._request = self._request, None
        if request is not None:
            is_error = status >= answers.FIRST_ERROR
            request.respond(Response(status, body, lines, reason, is_error, release))

    def failed(self, error: TsdError) -> None:
        """As of every job; where the answer has begun, the client sees that it was cut off."""
        if self._stream is None:
            self._refuse(error)
            return
        self._count_refused(error)
        self._stream.break_off()
        self._forget_request()

    def _end_stream(
        self, stream: Stream, body: bytes | memoryview, release: Callable[[], None] | None
    ) -> None:
        stream.send(bytes(body))
        stream.end()
        if release is not None:
            release()
        self._forget_request()

    def _refuse(self, error: TsdError) -> None:
        self._count_refused(error)
        if isinstance(error, NoWorkers | QueueFull):
            version = f'Version {self._asked_version}" ' if self._asked_version else ""
            said = type(error)(NO_WORKER.format(name=self._model.name, version=version))
            said.retry_after_s = error.retry_after_s
            error = said
        request = self._forget_request()
        if request is not None:
            request.respond(answers.error_answer(error, request_id=self.request_id))

    def _count_refused(self, error: TsdError) -> None:
        """One more request, unless nobody waits for its answer."""
        figures = self._model.figures
        if self._request is None:
            figures.count_error(error.code)
        else:
            figures.count_refused(error.code, time.monotonic() - self.accepted_at)

    def _on_disconnect(self) -> None:
        self._forget_request()
        self._withdraw()

    def _forget_request(self) -> Request | None:
        """Rings of references would keep bodies and slots until the collector comes by."""
        request, self._request = self._request, None
        if self._stream is not None:
            self._stream = None
        return request


def _sequence(request: Request, settings: ServingSettings) -> tuple[str, Fields]:
    """The sequence that the request belongs to; header lines for what it does not say."""
    named = request.header(settings.sequence_id_header.lower().encode("latin-1"))
    if named:
        return named.decode("latin-1"), []
    sequence = f"ts-seq-{uuid4()}"
    return sequence, [
        (settings.sequence_id_header.encode("latin-1"), sequence.encode()),
        (settings.sequence_start_header.encode("latin-1"), b"true"),
    ]


def _parameters(request: Request) -> list[tuple[str, str]]:
    """The query's parameters, where they reach the handler."""
    try:
        # A semicolon parts fields, too, as it did when TorchServe's HTTP server was written.
        query = request.query.replace(";", "&")
        parameters = parse_qsl(query, keep_blank_values=True, max_num_fields=MAX_PARAMETERS)
    except ValueError as error:
        raise BadRequest("The query has too many fields.") from error
    # NUL parts the fields of the head block.
    if any("\0" in name or "\0" in value for name, value in parameters):
        raise BadRequest("The query holds a NUL byte.")
    return parameters


def _true_or_false(is_true: bool) -> bytes:  # noqa: FBT001 (the only thing that it says)
    return b"True" if is_true else b"False"


def _handler_headers(block: bytes) -> tuple[bytes, bytes]:
    """Reason phrase and header lines that the handler set; what could split the answer is cut."""
    if b"\r" in block or b"\n" in block:
        block = block.replace(b"\r", b" ").replace(b"\n", b" ")
    reason, pairs = unpack_fields(block)
    # In whatever case it is named, a header is there once: the last one counts.
    kept = {pair[0].lower(): pair for pair in pairs}
    lines = [b"%b: %b\r\n" % pair for name, pair in kept.items() if name not in OWN_HEADERS]
    return reason, b"".join(lines)
