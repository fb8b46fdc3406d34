"""The runtimes, for operators: listed, added, made, checked, removed.

They stand at the control door only: an interpreter that is named here is run by the daemon."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

import msgspec

from tsd.api import answers
from tsd.api.access import audit, caller_of
from tsd.api.phases import Say, Words, stream_phases
from tsd.api.routes import Call, CallHandler
from tsd.errors import MalformedJson
from tsd.http.message import Response
from tsd.runtime_operations import RuntimeOperations, RuntimeReport
from tsd.runtimes.book import Runtime
from tsd.runtimes.builds import AUTO
from tsd.runtimes.creation import Wish

REPEAT_S = 2.0

Asked = TypeVar("Asked", bound=msgspec.Struct)


class AddRequest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """An interpreter, or the folder of an environment."""

    path: str
    name: str = ""
    default: bool = False


class CreateRequest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """An environment to be made; what is empty is chosen."""

    kind: str = AUTO
    name: str = ""
    default: bool = False
    torch: str = ""
    python: str = ""
    index_url: str = ""
    wheels: str = ""


class RuntimeRoutes:
    """The handlers; `routes` is their table."""

    def __init__(self, operations: RuntimeOperations) -> None:
        self._operations = operations

    @property
    def routes(self) -> dict[tuple[str, str], CallHandler]:
        """Method and path -> handler."""
        return {
            ("GET", "/tsd/runtimes"): self.list_runtimes,
            ("POST", "/tsd/runtimes"): self.add,
            ("POST", "/tsd/runtimes/create"): self.create,
            ("POST", "/tsd/runtimes/{runtime}/check"): self.check,
            ("PUT", "/tsd/runtimes/{runtime}/set-default"): self.set_default,
            ("DELETE", "/tsd/runtimes/{runtime}"): self.remove,
        }

    async def list_runtimes(self, _call: Call) -> Response:
        """All that are known."""
        rows = [runtime_row(report) for report in self._operations.reports()]
        return answers.json_answer({"runtimes": rows})

    async def add(self, call: Call) -> Response:
        """Check an interpreter that is there, and keep it."""
        audit(caller_of(call.request), call.request)
        asked = _asked(call, AddRequest)
        path = Path(asked.path)
        runtime = await self._operations.add(path, asked.name, is_default=asked.default)
        return answers.json_answer(self._done(f"Runtime {runtime.name} added", runtime))

    async def create(self, call: Call) -> None:
        """Make an environment, told as it comes; given up when nobody listens any more."""
        audit(caller_of(call.request), call.request)
        asked = _asked(call, CreateRequest)
        wish = Wish(
            asked.kind,
            asked.kind != AUTO,
            asked.torch,
            asked.python,
            asked.index_url,
            asked.wheels,
        )
        call.request.on_disconnect = _canceller()

        async def work(say: Say) -> Words:
            with _repeated(say) as tell:
                runtime = await self._operations.create(
                    wish, asked.name, tell, is_default=asked.default
                )
            return self._done(f"Runtime {runtime.name} created", runtime)

        await stream_phases(call, work)

    async def check(self, call: Call) -> Response:
        """Check it anew."""
        audit(caller_of(call.request), call.request)
        runtime = await self._operations.check(call.parts["runtime"])
        return answers.json_answer(self._done(f"Runtime {runtime.name} can run workers", runtime))

    async def set_default(self, call: Call) -> Response:
        """Make it the one that models have which name none."""
        audit(caller_of(call.request), call.request)
        runtime = await self._operations.set_default(call.parts["runtime"])
        return answers.json_answer(self._done(f"Runtime {runtime.name} is the default", runtime))

    async def remove(self, call: Call) -> Response:
        """Forget it, when no model has it."""
        audit(caller_of(call.request), call.request)
        runtime = await self._operations.remove(call.parts["runtime"])
        return answers.json_answer({"result": _result(f"Runtime {runtime.name} removed")})

    def _done(self, text: str, runtime: Runtime) -> Words:
        report = self._operations.report(runtime)
        return {"result": _result(text), "runtime": runtime_row(report)}


def runtime_row(report: RuntimeReport) -> Words:
    """A runtime as operators see it: what its check found, or else what its fork server says."""
    runtime, found, server = report.runtime, report.runtime.found, report.server
    is_loaded = server is not None and server.is_ready
    return {
        "name": runtime.name,
        "python": runtime.python,
        "default": report.is_default,
        "made": runtime.is_made,
        "versions": found.versions or (dict(server.versions) if server else {}),
        "abi": found.abi,
        "cuda": found.cuda,
        "cuda_trouble": found.cuda_trouble,
        "checked_at": runtime.checked_at,
        "state": server.state.value if server else "idle",
        "problem": server.last_error if server and not is_loaded else "",
        "models": report.models,
    }


def _asked(call: Call, kind: type[Asked]) -> Asked:
    try:
        return msgspec.json.decode(bytes(call.request.body or b""), type=kind)
    except ValueError as error:
        raise MalformedJson("The body is not what is asked for here.", why=str(error)) from error


def _result(text: str) -> Words:
    return {"code": 200, "status": text}


@contextmanager
def _repeated(say: Say) -> Iterator[Say]:
    """What was said last is said again from time to time: only so is it seen that nobody listens.

    (A client that sends no more may still be there to read.)"""
    loop = asyncio.get_running_loop()
    began_at = loop.time()
    last: Words = {"phase": "queued"}

    def tell(words: Words) -> None:
        nonlocal last
        last = words
        say(words | {"elapsed_s": round(loop.time() - began_at, 3)})

    async def repeat() -> None:
        while True:
            await asyncio.sleep(REPEAT_S)
            tell(last)

    repeating = asyncio.create_task(repeat())
    try:
        yield tell
    finally:
        repeating.cancel()


def _canceller() -> Callable[[], None]:
    """Ends the task that answers the present call."""
    task = asyncio.current_task()
    assert task is not None, "calls are answered in tasks"

    def cancel() -> None:
        task.cancel()

    return cancel
