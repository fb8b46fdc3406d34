"""The desired state in memory, as it is on disk: a change counts when it has been written.

What a change is and when it is made is decided in operations.py; the file is models/state.py's."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from pathlib import Path

from tsd.errors import StateNotSaved
from tsd.log import get_logger
from tsd.models import state

log = get_logger()


class Desired:
    """Which models, versions, workers and default versions the operator asked for."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._state = state.DesiredState()
        self._saving = asyncio.Lock()

    def __iter__(self) -> Iterator[tuple[str, str, state.DesiredVersion]]:
        """Name, version, and what is wanted of it."""
        for name, model in self._state.models.items():
            for version, desired in model.versions.items():
                yield name, version, desired

    @property
    def defaults(self) -> dict[str, str]:
        """The default version of each model."""
        return {name: model.default_version for name, model in self._state.models.items()}

    async def read(self) -> None:
        """Take over what is on disk; what is wrong with it is told in the log."""
        self._state, trouble = await asyncio.to_thread(state.read, self._folder)
        if trouble:
            log.error("state recovered: %s", trouble, code="state_damaged")

    async def put(
        self, name: str, version: str, desired: state.DesiredVersion, default_version: str
    ) -> None:
        """Want that version, so, and that default. Raises StateNotSaved: then nothing changed."""

        def changed() -> dict[str, state.DesiredModel]:
            known = self._state.models.get(name)
            versions = (known.versions if known else {}) | {version: desired}
            return self._state.models | {name: state.DesiredModel(default_version, versions)}

        await self._save(changed)

    async def drop(self, name: str, version: str | None) -> None:
        """Want that version no more; None: no version of that model. Raises StateNotSaved."""

        def changed() -> dict[str, state.DesiredModel]:
            models = dict(self._state.models)
            known = models.pop(name, None)
            versions = dict(known.versions) if known and version is not None else {}
            versions.pop(version or "", None)
            if known and versions:
                default = known.default_version
                models[name] = state.DesiredModel(
                    default if default in versions else next(iter(versions)), versions
                )
            return models

        await self._save(changed)

    async def _save(self, changed: Callable[[], dict[str, state.DesiredModel]]) -> None:
        async with self._saving:
            desired = state.DesiredState(models=changed())
            try:
                await asyncio.to_thread(state.save, self._folder, desired)
            except OSError as error:
                log.error(
                    "state not saved: %s", error, errno=error.errno, code="state_write_failed"
                )
                raise StateNotSaved(
                    "The change could not be saved and was not made.",
                    why=str(error.strerror),
                    fix="make room on the disk of the state directory",
                ) from error
            self._state = desired
