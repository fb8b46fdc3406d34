"""The fork servers: one for each runtime in use, started when the first model needs it.

One runtime's fork server is fork_server.py's; which runtimes there are is runtimes/book.py's."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Container

from tsd.runtimes.book import DEFAULT_WORDS, Runtime, Runtimes
from tsd.serving.fork_server import ForkServer

Make = Callable[[Runtime], ForkServer]


class ForkServers:
    """By the names of their runtimes; `make` gives one that is not started."""

    def __init__(self, runtimes: Runtimes, make: Make) -> None:
        self.runtimes = runtimes
        self._make = make
        self._started: dict[str, ForkServer] = {}
        # Told to end, and not gone yet.
        self._leaving: set[ForkServer] = set()

    @property
    def pids(self) -> set[int]:
        """Of all that run."""
        return {server.pid for server in (*self._started.values(), *self._leaving)}

    def find(self, runtime: str) -> ForkServer | None:
        """The one of that runtime, if it was started."""
        return self._started.get(runtime)

    def start_default(self) -> None:
        """The first model is not to wait for its runtime; without any there is nothing to start."""
        if self.runtimes.default is not None:
            self.of(self.runtimes.default.name)

    def of(self, name: str) -> ForkServer:
        """The one of the runtime of that name, started if it was not. Raises as Runtimes.find."""
        runtime = self.runtimes.find(name)
        server = self._started.get(runtime.name)
        if server is None:
            server = self._started[runtime.name] = self._make(runtime)
            server.begin()
        return server

    async def ready(self, name: str, timeout_s: float) -> ForkServer:
        """As `of`, once the runtime is loaded; StartFailed when that takes too long."""
        server = self.of(name)
        await server.wait_until_ready(timeout_s)
        return server

    def stop_unused(self, used: Container[str]) -> None:
        """End those of runtimes that no model uses, except the default one's."""
        default = self.runtimes.default
        kept = default.name if default else ""
        for name in [name for name in self._started if name != kept and name not in used]:
            self._end(name)

    async def stop(self) -> None:
        """End them all; workers go on. Returns when they are gone."""
        for name in list(self._started):
            self._end(name)
        await asyncio.gather(*[server.wait_until_exited() for server in self._leaving])

    def _end(self, name: str) -> None:
        server = self._started.pop(name)
        server.stop()
        self._leaving = {one for one in self._leaving if one.is_running} | {server}


class ModelRuntime:
    """The runtime of one model: the one that it names, or the default of when it first needs one.

    Its workers stay with it, whatever becomes the default later."""

    def __init__(self, asked: str, servers: ForkServers) -> None:
        self._servers = servers
        self._asked = asked
        self.name = "" if asked in DEFAULT_WORDS else asked

    async def ready(self, timeout_s: float) -> ForkServer:
        """Its fork server, as ForkServers.ready."""
        server = self._servers.of(self.name or self._asked)
        self.name = server.runtime
        await server.wait_until_ready(timeout_s)
        return server
