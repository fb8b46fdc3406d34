"""The operator's verbs on runtimes: add, create, check, set default, remove.

Whatever lets models start that could not makes them start. Which runtimes there are, and the
file that they are kept in, is runtimes/book.py's part."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Protocol

import msgspec

from tsd.errors import (
    AlreadyRegistered,
    BadRequest,
    Busy,
    RuntimeInUse,
    RuntimeRefused,
    StateNotSaved,
)
from tsd.log import get_logger
from tsd.models.description import check_name
from tsd.runtimes import builds
from tsd.runtimes.book import CONFIGURED, RESERVED, Runtime
from tsd.runtimes.check import check, interpreter_of
from tsd.runtimes.creation import Maker, Say, Wish, discard
from tsd.serving.fork_server import ForkServer
from tsd.serving.fork_servers import ForkServers
from tsd.settings import Config

log = get_logger()


@dataclass(frozen=True, slots=True)
class RuntimeReport:
    """A runtime, and what has become of it in this daemon."""

    runtime: Runtime
    is_default: bool
    server: ForkServer | None
    models: list[str]


class Models(Protocol):
    """What this has to do with models: operations.Operations fits."""

    @property
    def runtimes_in_use(self) -> dict[str, list[str]]: ...
    async def try_again(self) -> None: ...


class RuntimeOperations:
    """One change of one runtime at a time."""

    def __init__(
        self,
        servers: ForkServers,
        environment: Mapping[str, str],
        config: Callable[[], Config],
        models: Models,
    ) -> None:
        self._servers = servers
        self._book = servers.runtimes
        self._models = models
        self._environment = environment
        self._config = config
        self._changing: set[str] = set()
        self._making: set[asyncio.Task[Any]] = set()
        self._is_leaving = False

    def reports(self) -> list[RuntimeReport]:
        """All that are known."""
        return [self.report(runtime) for runtime in self._book]

    def report(self, runtime: Runtime) -> RuntimeReport:
        """All that is known of one."""
        return RuntimeReport(
            runtime,
            self._book.default is not None and self._book.default.name == runtime.name,
            self._servers.find(runtime.name),
            self._models.runtimes_in_use.get(runtime.name, []),
        )

    async def add(self, path: Path, name: str, *, is_default: bool) -> Runtime:
        """Check an interpreter and know it from now on; what was known by that name must be it."""
        if not path.is_absolute():
            raise BadRequest("The path of a runtime is absolute.", fix="begin it with /")
        if "\0" in str(path):
            raise BadRequest("A path has no NUL.", fix="leave it out")
        self._check_default(is_default=is_default)
        python = await asyncio.to_thread(interpreter_of, path)
        name = self._own_name(name or name_of(python))
        with self._change_of(name):
            if name in self._book and self._book.find(name).python != str(python):
                raise _exists(name)
            is_made = name in self._book and self._book.find(name).is_made
            runtime = await self._checked(Runtime(name, str(python), is_made))
            await self._know(runtime, is_default=is_default)
        return runtime

    def give_up(self) -> None:
        """The daemon leaves: what is being made would keep it for minutes."""
        self._is_leaving = True
        for task in self._making:
            task.cancel()

    async def create(self, wish: Wish, name: str, say: Say, *, is_default: bool) -> Runtime:
        """Make an environment and know it from now on."""
        self._check_default(is_default=is_default)
        wish.check()
        driver = await asyncio.to_thread(builds.driver_version)
        wish = replace(wish, build=builds.chosen(wish.build, driver))
        name = self._own_name(name or wish.build)
        with self._change_of(name):
            if name in self._book:
                raise _exists(name)
            settings = self._config().runtimes
            maker = Maker(self._book.folder / name, self._environment, say)
            wish = replace(wish, index_url=wish.index_url or settings.index_url)
            with self._until_given_up():
                found = await maker.make(wish, settings.create_timeout_s, settings.check_timeout_s)
            runtime = Runtime(name, str(maker.python), is_made=True, checked_at=_now(), found=found)
            # Whoever leaves now comes too late: what is known is not to be deleted.
            await asyncio.shield(self._keep(runtime, is_default=is_default))
        return runtime

    async def check(self, name: str) -> Runtime:
        """Check it anew."""
        runtime = self._book.find(name)
        with self._change_of(runtime.name):
            runtime = await self._checked(runtime)
            if not self._book.is_fixed(runtime.name):
                await self._know(runtime, is_default=False)
        return runtime

    async def set_default(self, name: str) -> Runtime:
        """Models that name none, and are registered from now on, have this one."""
        runtime = self._book.find(name)
        with self._change_of(runtime.name):
            self._check_own(runtime)
            self._check_default(is_default=True)
            await self._know(runtime, is_default=True)
        return runtime

    async def remove(self, name: str) -> Runtime:
        """Know it no more; an environment that the daemon made is deleted."""
        # The default may have been asked for by TorchServe's words.
        runtime = self._book.find(name)
        name = runtime.name
        with self._change_of(name):
            self._check_own(runtime)
            models = self._models.runtimes_in_use.get(name)
            if models:
                raise RuntimeInUse(
                    f"Runtime {name} is in use.",
                    why=f"models have it: {', '.join(models[:5])}",
                    fix="unregister them, or register them with another --runtime, first",
                )
            await self._book.drop(name)
            self._servers.stop_unused(self._models.runtimes_in_use)
            await self._delete(runtime)
            log.info("runtime %s removed", name, code="runtime_removed")
        return runtime

    async def _checked(self, runtime: Runtime) -> Runtime:
        timeout_s = self._config().runtimes.check_timeout_s
        found = await check(Path(runtime.python), timeout_s, self._environment)
        return msgspec.structs.replace(runtime, found=found, checked_at=_now())

    @contextmanager
    def _until_given_up(self) -> Iterator[None]:
        task = asyncio.current_task()
        assert task is not None, "operations are asked for in tasks"
        self._making.add(task)
        try:
            yield
        except asyncio.CancelledError:
            if not self._is_leaving:
                raise
            why, fix = "the daemon was stopped meanwhile", "ask the next one for it"
            raise RuntimeRefused("The runtime was not made.", why=why, fix=fix) from None
        finally:
            self._making.discard(task)

    async def _keep(self, runtime: Runtime, *, is_default: bool) -> None:
        """Know what was made; it is gone again where that cannot be saved."""
        try:
            await self._know(runtime, is_default=is_default)
        except StateNotSaved:
            await self._delete(runtime)
            raise

    async def _know(self, runtime: Runtime, *, is_default: bool) -> None:
        await self._book.put(runtime, is_default=is_default)
        self._servers.start_default()
        said = (runtime.name, runtime.found.torch, runtime.python)
        log.info("runtime %s: torch %s, %s", *said, code="runtime_known")
        await self._models.try_again()

    async def _delete(self, runtime: Runtime) -> None:
        if runtime.is_made:
            await asyncio.to_thread(discard, self._book.folder / runtime.name)

    def _own_name(self, name: str) -> str:
        if name in RESERVED:
            raise BadRequest(
                f"A runtime cannot be called {name}.",
                why="that name has a meaning of its own",
                fix="choose another one, with --name",
            )
        return check_name(name, "runtime name", "--name")

    def _check_default(self, *, is_default: bool) -> None:
        if is_default and self._book.is_fixed(CONFIGURED):
            raise RuntimeInUse(
                "The configuration says which runtime is the default.",
                why=f"the setting `python` names {self._book.find(CONFIGURED).python}",
                fix="take `python` out of the configuration and restart the daemon",
            )

    def _check_own(self, runtime: Runtime) -> None:
        if self._book.is_fixed(runtime.name):
            raise RuntimeInUse(
                f"Runtime {runtime.name} is not kept by tsctl.",
                why="it comes from the setting `python`, or is the daemon's own interpreter",
                fix="change the configuration; or leave it alone and name another default",
            )

    @contextmanager
    def _change_of(self, name: str) -> Iterator[None]:
        if name in self._changing:
            raise Busy(f"Another change to runtime {name} is under way.", fix="try again later")
        self._changing.add(name)
        try:
            yield
        finally:
            self._changing.discard(name)


def name_of(python: Path) -> str:
    """A name for the interpreter's runtime: that of its environment."""
    prefix = python.parent.parent if python.parent.name == "bin" else python
    name = "system" if prefix in (Path("/usr"), Path("/")) else prefix.name
    return re.sub(r"[^A-Za-z0-9._-]", "_", name).lstrip("._-")[:128]


def _exists(name: str) -> AlreadyRegistered:
    return AlreadyRegistered(
        f"There is another runtime {name}.", fix="choose another name, with --name, or remove it"
    )


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
