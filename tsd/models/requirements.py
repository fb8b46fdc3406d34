"""Packages that a model brings a requirements.txt for: installed once, kept, and shared.

A folder of packages is named after what was asked for and the runtime it is for. What is done in
the runtime's interpreter is installer.py's part."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import secrets
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Protocol

from tsd import programs
from tsd.errors import RequirementsFailed
from tsd.log import get_logger
from tsd.models.archive import file_inside
from tsd.models.description import ModelFiles
from tsd.settings import Config

FOLDER = "environments"
STAGING_PREFIX = ".installing-"
LOG_NAME = "log.txt"
INSTALLER = Path(__file__).with_name("installer.py")
SHOWN_LOG_BYTES = 2_000

log = get_logger()


def file_of(files: ModelFiles) -> Path | None:
    """The model's requirements.txt, if it names one."""
    name = files.manifest["model"].get("requirementsFile")
    return file_inside(files.model_dir, str(name)) if name else None


class LoadedRuntime(Protocol):
    """A runtime whose parts' versions are known: a fork server fits."""

    @property
    def runtime(self) -> str: ...
    @property
    def python(self) -> Path: ...
    @property
    def versions(self) -> Mapping[str, str]: ...


class Environments:
    """The folders of packages, and those of them that were asked for since the start."""

    def __init__(self, state_dir: Path) -> None:
        self._folder = state_dir / FOLDER
        self._used: set[Path] = set()

    async def provide(
        self, model: str, requirements: Path, config: Config, runtime: LoadedRuntime
    ) -> Path:
        """The folder that has what the file asks for; raises RequirementsFailed."""
        versions = runtime.versions
        parts = [str(runtime.python), *(f"{key} {versions[key]}" for key in sorted(versions))]
        key = await asyncio.to_thread(digest_of, requirements, parts)
        place = self._folder / key
        self._used.add(place)
        if not place.is_dir():
            log.info("model %s: installing its requirements", model, model=model)
            install_s = config.archives.install_timeout_s
            await self._install(model, requirements, place, runtime.python, install_s)
        return place

    async def discard_unused(self) -> None:
        """Delete what no model has asked for: once, when all models of the start are there."""
        await asyncio.to_thread(self._discard_unused)

    def _discard_unused(self) -> None:
        # Found first: what is asked for meanwhile is noted before it is made.
        for path in list(self._folder.iterdir()) if self._folder.is_dir() else ():
            if path not in self._used:
                shutil.rmtree(path, ignore_errors=True)

    async def _install(
        self, model: str, requirements: Path, place: Path, python: Path, timeout_s: float
    ) -> None:
        staging = self._folder / f"{STAGING_PREFIX}{secrets.token_hex(8)}"
        self._used.add(staging)
        staging.mkdir(mode=0o700, parents=True)
        try:
            installing = _start_installer(requirements, staging, place, python)
            await programs.wait_for(installing, timeout_s)
            _check_made(model, staging, place)
        finally:
            await asyncio.to_thread(shutil.rmtree, staging, ignore_errors=True)
            self._used.discard(staging)


def _start_installer(
    requirements: Path, staging: Path, place: Path, python: Path
) -> subprocess.Popen[bytes]:
    with (staging / LOG_NAME).open("wb") as output:
        return subprocess.Popen(
            [python, "-P", INSTALLER, requirements, staging, place],
            cwd=requirements.parent,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,
        )


def digest_of(requirements: Path, runtime: Sequence[str]) -> str:
    """A name for what is asked for, where: files that it names count with their content."""
    text = requirements.read_text(encoding="utf-8", errors="replace")
    digest = hashlib.sha256("\n".join([*runtime, text]).encode())
    for line in text.splitlines():
        for word in line.split():
            named = requirements.parent / word
            # A word may be longer than any name, or a file that is not for us.
            with contextlib.suppress(OSError):
                if named.is_file():
                    with named.open("rb") as content:
                        digest.update(hashlib.file_digest(content, "sha256").digest())
    return digest.hexdigest()


def _check_made(model: str, staging: Path, place: Path) -> None:
    # Not by the exit status: the subreaper may have reaped the process before us.
    if place.is_dir():
        return
    output = (staging / LOG_NAME).read_bytes()[-SHOWN_LOG_BYTES:].decode(errors="replace").strip()
    has_environment = (staging / "bin" / "python").exists()
    what = "Custom pip package installation" if has_environment else "Virtual environment creation"
    raise RequirementsFailed(
        f"{what} failed for model {model}",
        why=output or "it took too long: see archives.install_timeout_s",
        fix="mend the model's requirements.txt, or what the runtime's pip is configured with",
    )
