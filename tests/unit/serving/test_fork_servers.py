"""Which fork servers there are: those of runtimes in use. Nothing is started here."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import cast

import pytest

from tsd.errors import NoRuntime, UnknownRuntime
from tsd.runtimes.book import Runtime, Runtimes
from tsd.serving.fork_server import ForkServer
from tsd.serving.fork_servers import ForkServers, ModelRuntime

CPU, GPU = Runtime("cpu", "/opt/cpu/python"), Runtime("gpu", "/opt/gpu/python")


class Server:
    """In the place of a fork server: notes what it is told."""

    def __init__(self, runtime: Runtime, pid: int) -> None:
        self.runtime, self.python, self.pid = runtime.name, Path(runtime.python), pid
        self.is_running = False

    def begin(self) -> None:
        self.is_running = True

    def stop(self) -> None:
        self.is_running = False

    async def wait_until_ready(self, _timeout_s: float) -> None:
        assert self.is_running

    async def wait_until_exited(self) -> None:
        assert not self.is_running


class Scene:
    """The fork servers of a machine with these runtimes, the first of them the default."""

    def __init__(self, folder: Path, *runtimes: Runtime) -> None:
        self.made: list[Server] = []
        self.book = Runtimes(folder, None, None)
        for runtime in runtimes:
            asyncio.run(self.book.put(runtime, is_default=False))
        self.servers = ForkServers(self.book, self._make)

    def _make(self, runtime: Runtime) -> ForkServer:
        self.made.append(Server(runtime, 100 + len(self.made)))
        return cast(ForkServer, self.made[-1])

    @property
    def running(self) -> list[str]:
        return [server.runtime for server in self.made if server.is_running]


def test_only_the_default_one_is_started_before_it_is_asked_for(tmp_path: Path) -> None:
    scene = Scene(tmp_path, CPU, GPU)
    scene.servers.start_default()
    assert scene.running == ["cpu"]
    assert scene.servers.of("gpu") is scene.servers.of("gpu")
    assert scene.running == ["cpu", "gpu"]
    assert scene.servers.pids == {100, 101}


def test_without_any_there_is_nothing_to_start(tmp_path: Path) -> None:
    scene = Scene(tmp_path)
    scene.servers.start_default()
    assert not scene.made
    with pytest.raises(NoRuntime):
        scene.servers.of("python")
    with pytest.raises(UnknownRuntime):
        scene.servers.of("gpu")


def test_those_that_no_model_has_are_ended_but_not_the_defaults(tmp_path: Path) -> None:
    scene = Scene(tmp_path, CPU, GPU)
    scene.servers.start_default()
    scene.servers.of("gpu")
    scene.servers.stop_unused({"gpu"})
    assert scene.running == ["cpu", "gpu"]
    scene.servers.stop_unused(set())
    assert scene.running == ["cpu"]
    assert scene.servers.find("gpu") is None
    asyncio.run(scene.servers.stop())
    assert not scene.running


def test_a_model_stays_with_what_was_the_default_when_it_began(tmp_path: Path) -> None:
    scene = Scene(tmp_path)
    early, named = ModelRuntime("python", scene.servers), ModelRuntime("gpu", scene.servers)
    assert (early.name, named.name) == ("", "gpu")
    with pytest.raises(NoRuntime):
        asyncio.run(early.ready(1.0))
    asyncio.run(scene.book.put(CPU, is_default=False))
    assert asyncio.run(early.ready(1.0)).runtime == "cpu"
    asyncio.run(scene.book.put(GPU, is_default=True))
    assert asyncio.run(early.ready(1.0)).runtime == "cpu"
    assert asyncio.run(ModelRuntime("python", scene.servers).ready(1.0)).runtime == "gpu"
