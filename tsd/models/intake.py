"""From what an operator names to the files and the description of a model, ready to be entered.

Looks it up or downloads it, unpacks it, reads its settings and installs what it requires. What
fails leaves nothing behind."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import msgspec

from tsd.errors import StateNotSaved
from tsd.log import get_logger
from tsd.models import archive, download
from tsd.models.description import (
    ModelDescription,
    ModelFiles,
    RegisterOptions,
    check_name,
    describe,
)
from tsd.models.requirements import Environments, LoadedRuntime, file_of
from tsd.models.startup import preset_of
from tsd.models.store import Origin, resolve
from tsd.settings import Config

log = get_logger()


@dataclass(frozen=True, slots=True)
class Newcomer:
    """A model before it is one: where it came from, and all that is said about it."""

    origin: Origin
    description: ModelDescription


class Intake:
    """Brings models in, with the settings of the moment.

    `runtime`: waits for the one of that name, so long at most."""

    def __init__(
        self,
        config: Config,
        runtime: Callable[[str, float], Awaitable[LoadedRuntime]],
    ) -> None:
        self.config = config
        self._runtime = runtime
        self._folder = config.state_dir / "models"
        self._environments = Environments(config.state_dir)

    async def origin(self, url: str, *, is_local_caller: bool, at_start: bool = False) -> Origin:
        """Where the files are that a url names; what it leads to is downloaded."""
        store = self.config.model_store
        if not download.is_url(url):
            # TorchServe takes any folder of the machine from whoever may register.
            is_folder = self.config.torchserve.is_strict and await asyncio.to_thread(
                _is_folder, url
            )
            return Origin(resolve(url, store, is_local_caller=is_local_caller or is_folder))
        return await download.fetch(url, store, self.config.archives, may_exist=at_start)

    @asynccontextmanager
    async def fetched(self, url: str, *, is_local_caller: bool) -> AsyncIterator[Origin]:
        """As `origin`, with a download that nobody needs when what follows fails."""
        origin = await self.origin(url, is_local_caller=is_local_caller)
        try:
            yield origin
        except BaseException:
            await self.discard_download(origin)
            raise

    async def newcomer(
        self,
        origin: Origin,
        folder: Path | None,
        options: RegisterOptions,
        *,
        at_start: bool = False,
    ) -> Newcomer:
        """The model that lies there; `folder`: where an earlier run unpacked it, if one did."""
        if options.model_name is not None:
            check_name(options.model_name)
        files = replace(await self._unpacked(origin.path, folder), url=origin.url)
        serving = self.config.serving
        if at_start:
            serving = msgspec.structs.replace(serving, default_workers=serving.workers_at_start)
        presets = partial(preset_of, self.config.torchserve.models, is_at_start=at_start)
        try:
            description = describe(files, options, serving, presets)
            description = await self._with_requirements(files, description)
        except BaseException:
            # What an earlier run unpacked stays: what is wrong now may not be so the next time.
            if files.model_dir != folder:
                await self.discard(files.model_dir)
            raise
        return Newcomer(origin, description)

    async def discard(self, model_dir: Path) -> None:
        """Delete what was unpacked for a model that is no more."""
        await asyncio.to_thread(archive.discard, model_dir, self._folder)

    async def discard_download(self, origin: Origin) -> None:
        """Delete the archive of a model that is no more, if it was downloaded for it."""
        await asyncio.to_thread(download.discard, origin)

    async def discard_left_over(self, kept: list[Path]) -> None:
        """Delete what earlier runs left behind, except what they unpacked in `kept`."""
        await asyncio.to_thread(archive.discard_others, self._folder, kept)
        await asyncio.to_thread(download.discard_partial, self.config.model_store)

    async def discard_unused(self) -> None:
        """Delete what was installed for models that are no more; called when all are there."""
        await self._environments.discard_unused()

    async def _unpacked(self, source: Path, folder: Path | None) -> ModelFiles:
        """The model's files: those of an earlier run where they are whole, else unpacked anew."""
        try:
            limits = self.config.archives
            return await asyncio.to_thread(archive.files_of, source, folder, self._folder, limits)
        except OSError as error:
            raise StateNotSaved(
                "The archive could not be unpacked.",
                why=f"{error.strerror}: {error.filename}",
                fix="check the permissions of the archive and the space of the state directory",
            ) from error

    async def _with_requirements(
        self, files: ModelFiles, description: ModelDescription
    ) -> ModelDescription:
        """Its workers find what its requirements.txt asks for, where that is to be installed."""
        requirements, config = file_of(files), self.config
        if requirements is None:
            return description
        if not config.archives.install_requirements:
            log.info(
                "model %s: its %s is left alone: archives.install_requirements is off",
                description.name,
                requirements.name,
                model=description.name,
                version=description.version,
            )
            return description
        runtime = await self._runtime(description.runtime, config.serving.startup_timeout_s)
        place = await self._environments.provide(description.name, requirements, config, runtime)
        return replace(description, extra_paths=(str(place),), pinned_runtime=runtime.runtime)


def _is_folder(url: str) -> bool:
    """Whether it is the whole path of a folder."""
    path = Path(url)
    try:
        return path.is_absolute() and path.is_dir()
    except (OSError, ValueError):
        return False
