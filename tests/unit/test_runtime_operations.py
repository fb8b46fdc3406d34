"""What operators may do with runtimes: by every name that one has, and until the very end."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

import pytest

from tests.support.runtimes import make_wheels
from tsd.errors import BadRequest
from tsd.runtime_operations import RuntimeOperations
from tsd.runtimes.book import Runtime, Runtimes
from tsd.runtimes.creation import Wish
from tsd.serving.fork_server import ForkServer
from tsd.serving.fork_servers import ForkServers
from tsd.settings import Config


class Server(ForkServer):
    """One that is not there."""

    def __init__(self) -> None:
        pass

    def begin(self) -> None:
        """Nothing is started."""


class Models:
    """Those of a daemon; `trying` is set when they are tried again, which never ends."""

    def __init__(self) -> None:
        self.runtimes_in_use: dict[str, list[str]] = {}
        self.trying = asyncio.Event()

    async def try_again(self) -> None:
        """A runtime has come."""
        self.trying.set()
        await asyncio.Event().wait()


class Operations(RuntimeOperations):
    """Those of a daemon without a process."""

    def __init__(self, state_dir: Path) -> None:
        self.book = Runtimes(state_dir, None, None)
        self.models = Models()
        servers = ForkServers(self.book, lambda _: Server())
        super().__init__(servers, os.environ, Config, self.models)


def test_torchserves_word_for_the_default_removes_it_whole(tmp_path: Path) -> None:
    async def story() -> None:
        operations = Operations(tmp_path)
        await operations.book.put(Runtime("cpu", "/x", is_made=True), is_default=True)
        (tmp_path / "runtimes" / "cpu").mkdir(parents=True)
        assert (await operations.remove("python")).name == "cpu"
        assert not list(operations.book)
        assert not list((tmp_path / "runtimes").iterdir())

    asyncio.run(story())


def test_who_leaves_when_it_is_known_does_not_take_it_along(tmp_path: Path) -> None:
    async def story() -> None:
        operations = Operations(tmp_path)
        wish = Wish("cpu", wheels=str(make_wheels(tmp_path / "wheels")))
        making = asyncio.create_task(operations.create(wish, "", lambda _: None, is_default=False))
        trying = asyncio.create_task(operations.models.trying.wait())
        await asyncio.wait({making, trying}, return_when=asyncio.FIRST_COMPLETED)
        making.cancel()
        with pytest.raises(asyncio.CancelledError):
            await making

    asyncio.run(story())
    assert (tmp_path / "runtimes" / "cpu" / "bin" / "python").exists()


def test_what_no_path_can_be_is_told(tmp_path: Path) -> None:
    with pytest.raises(BadRequest):
        asyncio.run(Operations(tmp_path).add(Path("/x\0"), "", is_default=False))
