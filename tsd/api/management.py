"""The management API: TorchServe's routes on models, for tsctl and for TCP alike.

A caller that accepts `application/x-ndjson` is told each phase as it comes, and the result last."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable
from datetime import datetime

from tsd import process
from tsd.api import answers
from tsd.api.access import CONTROL, audit, caller_of
from tsd.api.routes import Call, CallHandler
from tsd.errors import BadRequest, TsdError
from tsd.http.message import Response, Stream
from tsd.log import get_logger
from tsd.models.description import RegisterOptions
from tsd.operations import Operations, Progress
from tsd.serving.model import Model
from tsd.serving.registry import Registry
from tsd.serving.worker_handle import WorkerHandle

log = get_logger()

FIRST_WORKER_ID = 9000
LIST_LIMIT = 100
RUNTIMES = ("python", "python3", "LSP")
Result = tuple[int, str, Model | None]


class Management:
    """The handlers; `routes` is their table."""

    def __init__(self, registry: Registry, operations: Operations) -> None:
        self._registry = registry
        self._operations = operations

    @property
    def routes(self) -> dict[tuple[str, str], CallHandler]:
        """Method and path -> handler."""
        return {
            ("POST", "/models"): self.register,
            ("GET", "/models"): self.list_models,
            ("GET", "/models/{model}"): self.describe,
            ("GET", "/models/{model}/{version}"): self.describe,
            ("PUT", "/models/{model}"): self.scale,
            ("PUT", "/models/{model}/{version}"): self.scale,
            ("DELETE", "/models/{model}"): self.unregister,
            ("DELETE", "/models/{model}/{version}"): self.unregister,
            ("PUT", "/models/{model}/{version}/set-default"): self.set_default,
        }

    async def register(self, call: Call) -> Response | None:
        """Register an archive; by default wait until its workers are ready."""
        asked = _register_parameters(call)
        caller = caller_of(call.request)
        audit(caller, call.request)
        url = asked.get("url")
        if url is None:
            raise BadRequest("Parameter url is required.")
        runtime = asked.get("runtime", RUNTIMES[0])
        if runtime not in RUNTIMES:
            raise BadRequest(f"Invalid RuntimeType value: {runtime}")
        is_synchronous = _is_true(asked.get("synchronous"), default=True)

        async def work(progress: Progress) -> Result:
            progress.phase("queued")
            model = await self._operations.register(
                url,
                _options(asked),
                progress,
                is_local_caller=caller.is_operator,
                is_synchronous=is_synchronous,
            )
            return _registered(model, is_synchronous=is_synchronous)

        return await _answer(call, work)

    async def scale(self, call: Call) -> Response | None:
        """Bring the workers up to min_worker or down to max_worker."""
        audit(caller_of(call.request), call.request)
        version = call.parts.get("version") or call.query.get("model_version")
        model = self._registry.find(call.parts["model"], version)
        least = _number(call.query, "min_worker", 1)
        most = _number(call.query, "max_worker", least)
        is_synchronous = _is_true(call.query.get("synchronous"), default=False)

        async def work(progress: Progress) -> Result:
            await self._operations.scale(
                model, least, most, progress, is_synchronous=is_synchronous
            )
            if not is_synchronous:
                return 202, "Processing worker updates...", model
            named = f", version: {version}" if version else ""
            text = f"Workers scaled to {model.pool.wanted} for model: {model.name}{named}"
            return 200, text, model

        return await _answer(call, work)

    async def unregister(self, call: Call) -> Response:
        """Strike a version out, when its running requests are answered."""
        audit(caller_of(call.request), call.request)
        name = call.parts["model"]
        await self._operations.unregister(name, call.parts.get("version"))
        return answers.json_answer({"status": f'Model "{name}" unregistered'})

    async def set_default(self, call: Call) -> Response:
        """Make a version the one that answers when none is named."""
        audit(caller_of(call.request), call.request)
        name, version = call.parts["model"], call.parts["version"]
        await self._operations.set_default(name, version)
        text = f'Default version successfully updated for model "{name}" to "{version}"'
        return answers.json_answer({"status": text})

    async def list_models(self, call: Call) -> Response:
        """A page of the models in their default versions, by name."""
        limit = _number(call.query, "limit", LIST_LIMIT)
        limit = limit if 0 <= limit <= LIST_LIMIT else LIST_LIMIT
        first = max(0, _number(call.query, "next_page_token", 0))
        names = self._registry.names
        page = [self._registry.find(name) for name in names[first : first + limit]]
        body: dict[str, object] = {}
        if first + limit <= len(names):
            body["nextPageToken"] = str(first + limit)
        body["models"] = [
            {"modelName": model.name, "modelUrl": model.description.url} for model in page
        ]
        return answers.json_answer(body)

    async def describe(self, call: Call) -> Response:
        """One version, or with `all` every version, as TorchServe describes it."""
        name, version = call.parts["model"], call.parts.get("version")
        if version == "all":
            models = self._registry.versions(name)
        else:
            models = [self._registry.find(name, version)]
        return answers.json_answer([_described(model) for model in models])


async def _answer(call: Call, work: Callable[[Progress], Awaitable[Result]]) -> Response | None:
    """Do the work and answer with its result; with its phases where the caller reads them."""
    accepts = call.request.header(b"accept") or b""
    if b"application/x-ndjson" not in accepts:
        status, text, _ = await work(Progress(lambda _words: None))
        return answers.json_answer({"status": text}, status)
    lines = _Lines(call)
    try:
        status, text, model = await work(Progress(lines.say))
    except TsdError as error:
        if lines.stream is None:
            raise
        members = answers.error_members(
            error,
            answers.error_status(error, is_torchserve=True),
            for_operator=call.request.door == CONTROL,
        )
        lines.say({"error": members | _traceback_of(error)})
    except Exception as error:
        if lines.stream is None:
            raise
        # A bug: one traceback in the log, a bare error outside; and the stream has to end.
        log.exception("%s failed", call.request.path, error=repr(error))
        bare = TsdError("Internal server error.")
        lines.say({"error": answers.error_members(bare, 500, for_operator=False)})
    else:
        named = {"model": model.name, "version": model.version} if model else {}
        lines.say({"result": {"code": status, "status": text}, **named})
    lines.end()
    return None


class _Lines:
    """The stream of phases, begun with the first: an error before it has its own status."""

    def __init__(self, call: Call) -> None:
        self._request = call.request
        self.stream: Stream | None = None

    def say(self, words: dict[str, object]) -> None:
        if self.stream is None:
            head = answers.head(answers.new_request_id(), answers.NDJSON_TYPE)
            self.stream = self._request.stream(Response(200, b"", head, answers.OK))
        self.stream.send(json.dumps(words).encode() + b"\n")

    def end(self) -> None:
        if self.stream is not None:
            self.stream.end()


def _traceback_of(error: TsdError) -> dict[str, str]:
    return {"traceback": error.traceback} if error.traceback else {}


def _registered(model: Model, *, is_synchronous: bool) -> Result:
    wanted = model.pool.wanted
    text = f'Model "{model.name}" Version: {model.version} registered with {wanted} initial workers'
    if wanted == 0:
        return 200, f"{text}. Use scale workers API to add workers for the model.", model
    if not is_synchronous:
        return 202, "Processing worker updates...", model
    return 200, text, model


def _register_parameters(call: Call) -> dict[str, str]:
    """From the query, and from a JSON body, which wins."""
    if call.request.header(b"content-type") != b"application/json":
        return call.query
    try:
        body = json.loads(bytes(call.request.body))
    except (ValueError, RecursionError) as error:
        raise BadRequest("The body is not valid JSON.", why=str(error)) from error
    if not isinstance(body, dict):
        raise BadRequest("The body is not a JSON object.")
    said = {str(key): _as_text(value) for key, value in body.items() if value is not None}
    return call.query | said


def _as_text(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _options(asked: dict[str, str]) -> RegisterOptions:
    def number(key: str) -> int | None:
        text = asked.get(key, "")
        return int(text) if text.isascii() and text.isdigit() and len(text) < 10 else None

    return RegisterOptions(
        model_name=asked.get("model_name") or None,
        handler=asked.get("handler") or None,
        batch_size=number("batch_size"),
        max_batch_delay=number("max_batch_delay"),
        response_timeout=number("response_timeout"),
        startup_timeout=number("startup_timeout"),
        initial_workers=number("initial_workers"),
    )


def _number(query: dict[str, str], key: str, default: int) -> int:
    """A whole number; TorchServe takes anything else for absent, so does tsd."""
    text = query.get(key, "")
    digits = text.removeprefix("-")
    return int(text) if digits.isascii() and digits.isdigit() and len(digits) < 10 else default


def _is_true(text: str | None, *, default: bool) -> bool:
    return default if text is None else text.lower() == "true"


def _described(model: Model) -> dict[str, object]:
    description, yaml = model.description, model.description.model_yaml
    waiting = len(model.batcher.waiting)
    return {
        "modelName": model.name,
        "modelVersion": model.version,
        "modelUrl": description.url,
        "runtime": description.manifest.get("runtime", "python"),
        "minWorkers": model.min_workers,
        "maxWorkers": model.max_workers,
        "batchSize": description.batch_size,
        "maxBatchDelay": description.max_batch_delay_ms,
        "responseTimeout": int(description.response_timeout_s),
        "startupTimeout": int(description.startup_timeout_s),
        "maxRetryTimeoutInSec": yaml.get("maxRetryTimeoutInSec", 300),
        "clientTimeoutInMills": description.client_timeout_ms,
        "parallelType": "",
        "parallelLevel": 0,
        "deviceType": _device_type(model),
        "continuousBatching": False,
        "useJobTicket": False,
        "useVenv": False,
        "stateful": False,
        "sequenceMaxIdleMSec": 0,
        "sequenceTimeoutMSec": 0,
        "maxNumSequence": 0,
        "maxSequenceJobQueueSize": 0,
        "loadedAtStartup": model.is_from_start,
        "workers": [_described_worker(worker) for worker in model.pool.workers.values()],
        "jobQueueStatus": {
            "remainingCapacity": max(0, description.queue_size - waiting),
            "pendingRequests": waiting,
        },
    }


def _device_type(model: Model) -> str:
    """What the model asks for, else what this machine gives it."""
    is_on_gpu = any(device != "cpu" for device in model.pool.plan.devices)
    return model.description.device_type or ("gpu" if is_on_gpu else "cpu")


def _described_worker(worker: WorkerHandle) -> dict[str, object]:
    gpu_id = worker.arguments.gpu_id
    return {
        "id": str(FIRST_WORKER_ID + worker.number - 1),
        "startTime": utc_text(worker.started_at),
        "status": "READY" if worker.is_serving else "UNLOADING",
        "memoryUsage": process.rss_bytes(worker.pid),
        "pid": worker.pid,
        "gpu": gpu_id is not None,
        "gpuUsage": "N/A" if gpu_id is None else "failed to obtained gpu usage",
    }


def utc_text(moment: datetime) -> str:
    """A moment as TorchServe prints it: milliseconds and Z."""
    return moment.strftime("%Y-%m-%dT%H:%M:%S.") + f"{moment.microsecond // 1000:03d}Z"
