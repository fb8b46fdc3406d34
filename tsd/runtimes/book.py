"""The runtimes that the daemon knows, by name, as they are on disk; and the default one.

What an operator may do with them is decided in runtime_operations.py."""

from __future__ import annotations

import asyncio
import importlib.util
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec

from tsd import durable
from tsd.errors import NoRuntime, StateNotSaved, UnknownRuntime
from tsd.log import get_logger
from tsd.runtimes.check import Found
from tsd.runtimes.creation import discard_unfinished

FORMAT = 1
FILE_NAME = "runtimes.json"
FOLDER = "runtimes"
CONFIGURED = "configured"
OWN = "own"
# TorchServe's words for its one interpreter: whatever is the default here.
DEFAULT_WORDS = ("python", "python3", "LSP")
RESERVED = (CONFIGURED, OWN, *DEFAULT_WORDS)

log = get_logger()


class Runtime(msgspec.Struct, frozen=True):
    """An interpreter that has torch. `is_made`: the daemon made its environment, and deletes it."""

    name: str
    python: str
    is_made: bool = False
    checked_at: str = ""
    found: Found = Found()


class Kept(msgspec.Struct, frozen=True):
    """What is on disk."""

    format: int = FORMAT
    default: str = ""
    runtimes: dict[str, Runtime] = {}


class Runtimes:
    """`configured`: what the setting `python` names; `own`: the daemon's own, if it has torch."""

    def __init__(self, state_dir: Path, configured: Path | None, own: Path | None) -> None:
        self._file = state_dir / FILE_NAME
        self.folder = state_dir / FOLDER
        self._kept = Kept()
        self._fixed: dict[str, Runtime] = {}
        if configured is not None:
            self._fixed[CONFIGURED] = Runtime(CONFIGURED, str(configured))
        elif own is not None:
            self._fixed[OWN] = Runtime(OWN, str(own))
        self._saving = asyncio.Lock()

    def __iter__(self) -> Iterator[Runtime]:
        yield from self._fixed.values()
        yield from self._kept.runtimes.values()

    def __contains__(self, name: str) -> bool:
        return name in self._fixed or name in self._kept.runtimes

    def is_fixed(self, name: str) -> bool:
        """Whether it is none of those that an operator adds and removes."""
        return name in self._fixed

    @property
    def default(self) -> Runtime | None:
        """The setting's, else the operator's choice, else the daemon's own interpreter."""
        kept = self._kept.runtimes.get(self._kept.default)
        return self._fixed.get(CONFIGURED) or kept or self._fixed.get(OWN)

    def find(self, name: str) -> Runtime:
        """The runtime of that name; TorchServe's words mean the default.

        Raises NoRuntime, UnknownRuntime."""
        if name in DEFAULT_WORDS:
            if self.default is None:
                raise no_runtime()
            return self.default
        found = self._fixed.get(name) or self._kept.runtimes.get(name)
        if found is None:
            raise unknown_runtime(name)
        return found

    async def read(self) -> None:
        """Take over what is on disk; what is wrong with it is told in the log."""
        kept, trouble = await asyncio.to_thread(durable.read, self._file, _decoded)
        self._kept = kept or Kept()
        if trouble:
            log.error("runtimes recovered: %s", trouble, code="state_damaged")
        await asyncio.to_thread(discard_unfinished, self.folder)

    async def put(self, runtime: Runtime, *, is_default: bool) -> None:
        """Know it, from now on; the first one is the default. Raises StateNotSaved."""

        def changed(kept: Kept) -> Kept:
            default = runtime.name if is_default or not kept.default else kept.default
            return Kept(FORMAT, default, kept.runtimes | {runtime.name: runtime})

        await self._save(changed)

    async def drop(self, name: str) -> None:
        """Know it no more; where it was the default the oldest that is left is. As `put`."""

        def changed(kept: Kept) -> Kept:
            left = {key: runtime for key, runtime in kept.runtimes.items() if key != name}
            default = kept.default if kept.default in left else next(iter(left), "")
            return Kept(FORMAT, default, left)

        await self._save(changed)

    async def _save(self, changed: Callable[[Kept], Kept]) -> None:
        async with self._saving:
            kept = changed(self._kept)
            content = msgspec.json.format(msgspec.json.encode(kept), indent=2) + b"\n"
            try:
                await asyncio.to_thread(durable.replace, self._file, content)
            except OSError as error:
                log.error("runtimes not saved: %s", error, code="state_write_failed")
                raise StateNotSaved(
                    "The change could not be saved and was not made.",
                    why=str(error.strerror),
                    fix="make room on the disk of the state directory",
                ) from error
            self._kept = kept


def own_interpreter() -> Path | None:
    """The daemon's, where it could run workers, too: in a checkout it does, in the package not."""
    return Path(sys.executable) if importlib.util.find_spec("torch") else None


def no_runtime() -> NoRuntime:
    """Nothing here could run a model."""
    return NoRuntime(
        "There is no runtime.",
        why="the daemon knows no interpreter that has torch",
        fix="`tsctl runtime add PATH` for one that is here, or `tsctl runtime create cpu`",
    )


def unknown_runtime(name: str) -> UnknownRuntime:
    """In TorchServe's words, which are for clients that ask for another interpreter there."""
    return UnknownRuntime(
        f"Invalid RuntimeType value: {name[:140]}",
        why="no runtime has that name",
        fix="`tsctl runtime list` shows those that are there, `tsctl runtime add` adds one",
    )


def _decoded(content: bytes) -> Kept:
    kept = msgspec.json.decode(content, type=Kept)
    if kept.format != FORMAT:
        raise ValueError(f"format {kept.format}; this release reads {FORMAT}")
    return kept
