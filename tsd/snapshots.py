"""TorchServe's snapshots: after each change, a config.properties that starts the same server again.

Written only where the settings name a folder. tsd's own desired state (desired.py) is what a
restarted daemon goes by; a snapshot counts for it only as the configuration of a start."""

from __future__ import annotations

import asyncio
import json
import os
import re
import time
from collections.abc import Callable
from datetime import datetime
from pathlib import Path

from tsd.config import values
from tsd.log import get_logger
from tsd.properties import text
from tsd.properties.writing import properties_of
from tsd.serving.model import Model
from tsd.serving.registry import Registry
from tsd.settings import Config

MAX_KEPT = 100
"""TorchServe keeps all of them; here the oldest go."""

_NAME = re.compile(r"[0-9]{17}-(?:startup|snapshot|shutdown)\.cfg")

log = get_logger()


class Snapshots:
    """Taken one after another; one that cannot be written is told in the log."""

    def __init__(self, registry: Registry, config: Callable[[], Config]) -> None:
        self._registry = registry
        self._config = config
        self._writing = asyncio.Lock()
        self._last_ms = 0

    async def at_startup(self) -> None:
        """The first one, when the doors are open."""
        await self._take("startup")

    async def after_change(self) -> None:
        """One for each registration, scaling, and change of a default."""
        await self._take("snapshot")

    async def at_shutdown(self) -> None:
        """The last one: what the next start begins with."""
        await self._take("shutdown")

    async def _take(self, kind: str) -> None:
        folder = self._config().torchserve.snapshot_dir
        if folder is None:
            return
        async with self._writing:
            # Two in one millisecond would have one name.
            self._last_ms = now_ms = max(time.time_ns() // 1_000_000, self._last_ms + 1)
            moment = datetime.fromtimestamp(now_ms // 1000)
            name = f"{moment:%Y%m%d%H%M%S}{now_ms % 1000:03d}-{kind}.cfg"
            settings = properties_of(values(self._config()))
            settings["model_snapshot"] = json.dumps(
                snapshot(name, now_ms, self._registry), indent=2
            )
            content = text.write(settings, "Saving snapshot")
            try:
                await asyncio.to_thread(_write, folder, name, content)
            except OSError as error:
                log.error(
                    "snapshot not written: %s", error, errno=error.errno, code="snapshot_failed"
                )


def snapshot(name: str, now_ms: int, registry: Registry) -> dict[str, object]:
    """The models as TorchServe notes them."""
    models: dict[str, dict[str, object]] = {}
    for model in registry:
        is_default = registry.default_version(model.name) == model.version
        models.setdefault(model.name, {})[model.version] = _noted(model, is_default=is_default)
    count = sum(len(versions) for versions in models.values())
    return {"name": name, "modelCount": count, "created": now_ms, "models": models}


def _noted(model: Model, *, is_default: bool) -> dict[str, object]:
    description = model.description
    level = description.parallel.level
    return {
        "defaultVersion": is_default,
        "marName": description.url,
        "minWorkers": model.min_workers,
        "maxWorkers": model.max_workers,
        "batchSize": description.batch_size,
        "maxBatchDelay": description.max_batch_delay_ms,
        "responseTimeout": int(description.response_timeout_s),
        "startupTimeout": int(description.startup_timeout_s),
        "runtimeType": description.runtime,
        **({"parallelLevel": level} if level else {}),
    }


def _write(folder: Path, name: str, content: str) -> None:
    """Whole or not at all; then only the newest are left."""
    folder.mkdir(parents=True, exist_ok=True)
    aside = folder / f".{name}"
    # The settings may hold a password.
    private = os.open(aside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(private, "w", encoding="ascii") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    aside.rename(folder / name)
    kept = sorted(path for path in folder.iterdir() if _NAME.fullmatch(path.name))
    for old in kept[:-MAX_KEPT]:
        old.unlink(missing_ok=True)
