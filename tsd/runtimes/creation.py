"""A new virtual environment with torch, made by the daemon's user where the daemon keeps its state.

It is there whole or not at all. pip decides what is taken; its lines are told as they come."""

from __future__ import annotations

import asyncio
import contextlib
import re
import shutil
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from tsd import programs
from tsd.errors import BadRequest, RuntimeRefused
from tsd.runtimes.builds import CPU
from tsd.runtimes.check import SHOWN_BYTES, Found, check, interpreter_of, tail

# As the project's own `runtime` extra; what was tested is in these ranges.
TORCH = "torch>=2.4,<3"
COMPANIONS = ("numpy>=1.26", "pillow>=10", "orjson>=3.10")
PIP = (
    *("-m", "pip", "--disable-pip-version-check", "--no-input", "--no-color"),
    *("install", "--no-cache-dir", "--progress-bar", "off"),
)
VERSION = re.compile(r"[0-9][A-Za-z0-9.+*]{0,60}")
# There while an environment is being made, or is being deleted.
SCRATCH = "unfinished"
LINE_END = re.compile(rb"[\r\n]+")
SHOWN_LINE = 200
# Of what comes at once the end is told: a flood of lines would keep the loop busy.
TOLD_BYTES = 4_096
TOLD_LINES = 20

Say = Callable[[dict[str, object]], None]


@dataclass(frozen=True, slots=True)
class Wish:
    """What an environment is to be made from.

    `index_url`: where torch comes from, `wheels`: a folder that all comes from; without either,
    pip's own configuration decides. `is_exact`: the build was named, so no other one will do."""

    build: str
    is_exact: bool = False
    torch: str = ""
    python: str = ""
    index_url: str = ""
    wheels: str = ""

    def check(self) -> None:
        """Raise BadRequest for what can be no version, and no path of the daemon's machine."""
        if self.torch and not VERSION.fullmatch(self.torch):
            raise BadRequest(f"{self.torch[:40]} is no version of torch.", fix="as in 2.8.0")
        for path in filter(None, (self.python, self.wheels)):
            if not Path(path).is_absolute():
                raise BadRequest(f"{path[:200]} is not a whole path.", fix="begin it with /")
        if "\0" in self.python + self.wheels + self.index_url:
            raise BadRequest("Paths and URLs have no NUL.", fix="leave it out")

    @property
    def requirement(self) -> str:
        """torch, as pip is asked for it; without an index of one build the version names it."""
        if not self.torch:
            return TORCH
        has_own_index = "{build}" in self.index_url
        is_named = self.is_exact and not has_own_index and "+" not in self.torch
        return f"torch=={self.torch}+{self.build}" if is_named else f"torch=={self.torch}"

    @property
    def sources(self) -> list[str]:
        """pip's options that say where torch is taken from."""
        return ["--no-index", "--find-links", self.wheels] if self.wheels else []

    @property
    def index(self) -> dict[str, str]:
        """pip's environment says it: a command line, and a password there, is for all to see."""
        if self.wheels or not self.index_url:
            return {}
        return {"PIP_INDEX_URL": self.index_url.replace("{build}", self.build)}


class Maker:
    """Makes one environment in `folder`; gives up where a step fails."""

    def __init__(self, folder: Path, environment: Mapping[str, str], say: Say) -> None:
        self._folder = folder
        self._scratch = folder / SCRATCH
        # What pip unpacks on the way may be larger than /tmp has room for.
        self._environment = {**environment, "TMPDIR": str(self._scratch), "PYTHONUNBUFFERED": "1"}
        self._say = say
        self._output = bytearray()
        self._rest = b""

    async def make(self, wish: Wish, timeout_s: float, check_timeout_s: float) -> Found:
        """What the new environment's interpreter can do. Raises RuntimeRefused."""
        try:
            async with asyncio.timeout(timeout_s):
                await self._install(wish)
                self._say({"phase": "checking"})
                found = await check(self.python, check_timeout_s, self._environment)
            _check_build(wish, found)
            await asyncio.to_thread(shutil.rmtree, self._scratch, ignore_errors=True)
        except BaseException as error:
            await asyncio.to_thread(discard, self._folder)
            if isinstance(error, TimeoutError):
                raise self._failed("it took too long: see runtimes.create_timeout_s") from None
            if isinstance(error, OSError):
                raise self._failed(error.strerror or str(error)) from None
            raise
        return found

    @property
    def python(self) -> Path:
        """The new interpreter."""
        return self._folder / "bin" / "python"

    async def _install(self, wish: Wish) -> None:
        self._say({"phase": "creating"})
        base = await asyncio.to_thread(interpreter_of, Path(wish.python or sys.executable))
        await asyncio.to_thread(discard, self._folder)
        await asyncio.to_thread(self._scratch.mkdir, 0o700, parents=True)
        await self._run([base, "-m", "venv", self._folder], "python3-venv may not be installed")
        self._say({"phase": "installing"})
        # One index has torch, another one the rest; together, one could stand in for the other.
        torch, others = [wish.requirement, *wish.sources], [*COMPANIONS]
        if wish.index:
            await self._run([self.python, *PIP, *torch], "pip could not install torch", wish.index)
            await self._run([self.python, *PIP, *others], "pip could not install the rest")
        else:
            await self._run([self.python, *PIP, *torch, *others], "pip could not install torch")

    async def _run(
        self, command: Sequence[str | Path], trouble: str, more: Mapping[str, str] | None = None
    ) -> None:
        environment = {**self._environment, **(more or {})}
        status = await programs.run(command, self._take, sys.maxsize, environment)
        self._take(b"\n")
        if status != 0:
            raise self._failed(f"{trouble}: {tail(self._output)}")

    def _take(self, part: bytes) -> None:
        """Tell each whole line; keep the last words for the error."""
        self._output += part
        del self._output[:-SHOWN_BYTES]
        *lines, self._rest = LINE_END.split((self._rest + part)[-TOLD_BYTES:])
        said = (line.decode(errors="replace").strip() for line in lines[-TOLD_LINES:])
        for line in filter(None, said):
            self._say({"phase": "installing", "line": line[:SHOWN_LINE]})

    def _failed(self, why: str) -> RuntimeRefused:
        return RuntimeRefused(
            "The runtime could not be made.",
            why=why,
            fix="mend that, or choose where from: --index-url, --wheels, runtimes.index_url",
        )


def discard(folder: Path) -> None:
    """Delete an environment; one that is not all gone is known as such."""
    # On a disk that is full, too.
    with contextlib.suppress(OSError):
        (folder / SCRATCH).mkdir(exist_ok=True)
    # The sign of it goes last: the daemon may be killed meanwhile.
    for path in list(folder.glob("*")):
        if path.name != SCRATCH:
            shutil.rmtree(path, ignore_errors=True)
    shutil.rmtree(folder, ignore_errors=True)


def discard_unfinished(folder: Path) -> None:
    """Delete what was being made, or deleted, when the daemon was killed."""
    for scratch in list(folder.glob(f"*/{SCRATCH}")):
        discard(scratch.parent)


def _check_build(wish: Wish, found: Found) -> None:
    """A build for CUDA that was named has to be that one."""
    wanted = "" if wish.build == CPU else f"{wish.build[2:-1]}.{wish.build[-1]}"
    if wish.is_exact and wanted and found.cuda != wanted:
        raise RuntimeRefused(
            f"pip found torch {found.torch}, which is not a build for CUDA {wanted}.",
            why="what pip is configured with, or was told, has another build",
            fix="name an index of such builds: --index-url, or the setting runtimes.index_url",
        )
