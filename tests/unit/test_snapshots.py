"""Snapshots: what they say, how they are called, and how many are kept."""

from __future__ import annotations

import asyncio
import json
import re
import stat
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import pytest

from tsd.models.placement import Parallel
from tsd.properties import text
from tsd.serving.registry import Registry
from tsd.settings import Config, TlsSettings, TorchServeSettings
from tsd.snapshots import MAX_KEPT, Snapshots, snapshot


@dataclass
class Description:
    url: str
    batch_size: int = 4
    max_batch_delay_ms: int = 100
    response_timeout_s: float = 120.0
    startup_timeout_s: float = 60.0
    runtime: str = "python"
    parallel: Parallel = field(default_factory=Parallel)


@dataclass
class Model:
    name: str
    version: str
    min_workers: int
    max_workers: int
    description: Description


class Book:
    """A registry of models that do not run."""

    def __init__(self, *models: Model) -> None:
        self.models = models

    def __iter__(self) -> Iterator[Model]:
        return iter(self.models)

    def default_version(self, name: str) -> str:
        return next(model.version for model in self.models if model.name == name)


MODELS = cast(
    Registry,
    Book(
        Model("a", "2.0", 1, 3, Description("a2.mar", runtime="python3")),
        Model("a", "1.0", 0, 0, Description("a.mar")),
        Model("b", "1.0", 2, 2, Description("b.mar")),
    ),
)


def test_models_are_noted_as_torchserve_notes_them() -> None:
    said: Any = snapshot("x.cfg", 1234, MODELS)
    assert (said["name"], said["modelCount"], said["created"]) == ("x.cfg", 3, 1234)
    assert said["models"]["a"]["2.0"] == {
        "defaultVersion": True,
        "marName": "a2.mar",
        "minWorkers": 1,
        "maxWorkers": 3,
        "batchSize": 4,
        "maxBatchDelay": 100,
        "responseTimeout": 120,
        "startupTimeout": 60,
        "runtimeType": "python3",
    }
    assert said["models"]["a"]["1.0"]["defaultVersion"] is False
    assert said["models"]["b"]["1.0"]["runtimeType"] == "python"


def taken(folder: Path | None, times: int = 1) -> list[Path]:
    """The files after a start, some changes and an end."""
    config = Config(
        torchserve=TorchServeSettings(snapshot_dir=folder), tls=TlsSettings(keystore_password="x")
    )
    snapshots = Snapshots(MODELS, lambda: config)

    async def take() -> None:
        await snapshots.at_startup()
        # At once, as changes of several models may be.
        await asyncio.gather(*[snapshots.after_change() for _ in range(times)])
        await snapshots.at_shutdown()

    asyncio.run(take())
    return sorted(folder.iterdir()) if folder is not None else []


def test_each_is_a_file_of_properties_named_by_its_moment(tmp_path: Path) -> None:
    files = taken(tmp_path / "logs" / "config", times=3)
    kinds = [re.fullmatch(r"\d{17}-(\w+)\.cfg", file.name) for file in files]
    names = [kind[1] for kind in kinds if kind]
    assert names == ["startup", "snapshot", "snapshot", "snapshot", "shutdown"]
    said = text.parse(files[-1].read_text())
    assert said["job_queue_size"] == "100"
    assert json.loads(said["model_snapshot"])["name"] == files[-1].name
    assert {stat.S_IMODE(file.stat().st_mode) for file in files} == {0o600}


def test_nothing_is_written_where_no_folder_is_named() -> None:
    assert taken(None) == []


def test_only_the_newest_are_kept_and_other_files_stay(tmp_path: Path) -> None:
    for number in range(MAX_KEPT + 10):
        (tmp_path / f"{number:017}-snapshot.cfg").touch()
    (tmp_path / "mine.cfg").touch()
    names = [file.name for file in taken(tmp_path)]
    assert len(names) == MAX_KEPT + 1
    assert "mine.cfg" in names
    assert names[0] == f"{13:017}-snapshot.cfg"


def test_one_that_cannot_be_written_stops_nothing(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(NotADirectoryError):
        taken(tmp_path / "file")
    assert (tmp_path / "file").read_bytes() == b""
