"""The management API: TorchServe's routes on models, for tsctl and for TCP alike.

A caller that accepts `application/x-ndjson` is told each phase as it comes, and the result last."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence

from tsd.api import answers
from tsd.api.access import audit, caller_of
from tsd.api.described import customized, described
from tsd.api.intake import request_headers
from tsd.api.parameters import (
    is_true,
    number,
    register_options,
    register_parameters,
    scaling,
)
from tsd.api.phases import Say, Words, stream_phases, wants_phases
from tsd.api.routes import Call, CallHandler
from tsd.errors import BadRequest, DownloadFailed
from tsd.http.message import Response
from tsd.models.archive import check_runtime
from tsd.models.download import is_url
from tsd.operations import Operations, Progress, Scaling
from tsd.runtimes.book import DEFAULT_WORDS
from tsd.serving.model import Model
from tsd.serving.registry import Registry

LIST_LIMIT = 100
Result = tuple[int, str, Model | None]
Work = Callable[[Progress], Awaitable[Result]]


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
            ("GET", "/v1/models/{model}"): self.kserve_v1,
        }

    async def register(self, call: Call) -> Response | None:
        """Register an archive; by default wait until its workers are ready."""
        caller = caller_of(call.request)
        audit(caller, call.request)
        asked = register_parameters(call)
        return await _answer(call, self.registering(asked, is_local_caller=caller.is_operator))

    def registering(self, asked: dict[str, str], *, is_local_caller: bool) -> Work:
        """What is to be done to register an archive, whatever door it was asked at."""
        url = asked.get("url")
        if url is None:
            raise BadRequest("Parameter url is required.")
        runtime = asked.get("runtime", DEFAULT_WORDS[0])
        self._operations.check_runtime(runtime)
        check_runtime(runtime)
        if is_true(asked.get("s3_sse_kms"), default=False) and is_url(url):
            raise DownloadFailed(
                f"Failed to download archive from: {url}",
                why="s3_sse_kms asks for a signed request, which tsd does not make",
                fix="register a presigned URL, or download the archive into the model store",
            )
        is_synchronous = is_true(asked.get("synchronous"), default=True)

        async def work(progress: Progress) -> Result:
            progress.phase("queued")
            model = await self._operations.register(
                url,
                register_options(asked),
                progress,
                is_local_caller=is_local_caller,
                is_synchronous=is_synchronous,
            )
            return _registered(model, is_synchronous=is_synchronous)

        return work

    async def scale(self, call: Call) -> Response | None:
        """Bring the workers up to min_worker or down to max_worker; change limits of batches."""
        audit(caller_of(call.request), call.request)
        version = call.parts.get("version") or call.query.get("model_version")
        return await _answer(call, self.scaling(call.parts["model"], version, call.query))

    def scaling(self, name: str, version: str | None, asked: dict[str, str]) -> Work:
        """What is to be done to scale a version, whatever door it was asked at."""
        model = self._registry.find(name, version)
        wanted = scaling(asked, Scaling(model.min_workers, model.max_workers))
        is_synchronous = is_true(asked.get("synchronous"), default=False)

        async def work(progress: Progress) -> Result:
            await self._operations.scale(model, wanted, progress, is_synchronous=is_synchronous)
            if not is_synchronous:
                return 202, "Processing worker updates...", model
            named = f", version: {version}" if version else ""
            text = f"Workers scaled to {wanted.least} for model: {model.name}{named}"
            if wanted.changes_batches:
                text += f", batch size: {model.description.batch_size}"
            return 200, text, model

        return work

    async def unregister(self, call: Call) -> Response:
        """Strike a version out, when its running requests are answered."""
        audit(caller_of(call.request), call.request)
        text = await self.remove(call.parts["model"], call.parts.get("version"))
        return answers.json_answer({"status": text})

    async def remove(self, name: str, version: str | None) -> str:
        """Strike a version out; what is said of it."""
        await self._operations.unregister(name, version)
        return f'Model "{name}" unregistered'

    async def set_default(self, call: Call) -> Response:
        """Make a version the one that answers when none is named."""
        audit(caller_of(call.request), call.request)
        text = await self.make_default(call.parts["model"], call.parts["version"])
        return answers.json_answer({"status": text})

    async def make_default(self, name: str, version: str) -> str:
        """Make a version the default; what is said of it."""
        await self._operations.set_default(name, version)
        return f'Default version successfully updated for model "{name}" to "{version}"'

    async def kserve_v1(self, call: Call) -> Response:
        """KServe's `/v1/models/{model}`: as in TorchServe ready as soon as there are workers."""
        model = self._registry.find(call.parts["model"].partition(":")[0])
        is_ready = bool(model.pool.places)
        return answers.json_answer({"name": model.name, "ready": is_ready})

    async def list_models(self, call: Call) -> Response:
        """A page of the models in their default versions, by name."""
        limit = number(call.query, "limit", LIST_LIMIT)
        return answers.json_answer(self.page(limit, number(call.query, "next_page_token", 0)))

    def page(self, limit: int, first: int) -> dict[str, object]:
        """Up to `limit` models from the one of that number on; numbers out of bounds are mended."""
        limit = limit if 0 <= limit <= LIST_LIMIT else LIST_LIMIT
        first = max(0, first)
        names = self._registry.names
        page = [self._registry.find(name) for name in names[first : first + limit]]
        body: dict[str, object] = {}
        if first + limit <= len(names):
            body["nextPageToken"] = str(first + limit)
        body["models"] = [
            {"modelName": model.name, "modelUrl": model.description.url} for model in page
        ]
        return body

    async def describe(self, call: Call) -> Response:
        """One version, or with `all` every version, as TorchServe describes it."""
        name, version = call.parts["model"], call.parts.get("version")
        # Handlers are asked of one version only.
        is_asked = is_true(call.query.get("customized"), default=False)
        is_customized = is_asked and version != "all"
        headers = request_headers(call.request)
        members = await self.description(name, version, headers, is_customized=is_customized)
        response = answers.json_answer(members)
        if is_customized:
            # The worker's answers have no reason phrase, and this one is made of such.
            response.reason = b""
        return response

    async def description(
        self,
        name: str,
        version: str | None,
        headers: Sequence[tuple[bytes, bytes]] = (),
        *,
        is_customized: bool,
    ) -> list[dict[str, object]]:
        """The versions that are asked for, and what their handlers say if they are asked, too."""
        if version == "all":
            models = self._registry.versions(name)
        else:
            models = [self._registry.find(name, version)]
        members = [described(model) for model in models]
        if is_customized:
            for model, its in zip(models, members, strict=True):
                its |= await customized(model, headers)
        return members


async def _answer(call: Call, work: Work) -> Response | None:
    """Do the work and answer with its result; with its phases where the caller reads them."""
    if not wants_phases(call):
        status, text, _ = await work(Progress(lambda _words: None))
        return answers.json_answer({"status": text}, status)

    async def told(say: Say) -> Words:
        status, text, model = await work(Progress(say))
        named = {"model": model.name, "version": model.version} if model else {}
        return {"result": {"code": status, "status": text}, **named}

    await stream_phases(call, told)
    return None


def _registered(model: Model, *, is_synchronous: bool) -> Result:
    wanted = model.pool.wanted
    text = f'Model "{model.name}" Version: {model.version} registered with {wanted} initial workers'
    if wanted == 0:
        return 200, f"{text}. Use scale workers API to add workers for the model.", model
    if not is_synchronous:
        return 202, "Processing worker updates...", model
    return 200, text, model
