"""What is loaded at the start: named in the settings, or noted in a snapshot."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from tsd.errors import ConfigError
from tsd.models.description import ModelDescription, ModelFiles, RegisterOptions, describe
from tsd.models.startup import StartupModel, models_at_start, preset_of
from tsd.settings import Config, ServingSettings, TorchServeSettings

MODELS = json.dumps(
    {"m": {"1.0": {"minWorkers": 2, "maxWorkers": 3, "batchSize": 4, "responseTimeout": -1}}}
)


def at_start(models: str, store: Path | None = None, snapshot: str = "") -> list[StartupModel]:
    torchserve = TorchServeSettings(snapshot=snapshot)
    return models_at_start(Config(models=models, model_store=store, torchserve=torchserve))


def test_models_are_named_by_archive_or_by_name_and_archive(tmp_path: Path) -> None:
    found = at_start("a.mar, b = c.mar,, d=https://host/d.mar?x=1", tmp_path)
    assert [(one.options.model_name, one.url) for one in found] == [
        (None, "a.mar"),
        ("b", "c.mar"),
        ("d", "https://host/d.mar?x=1"),
    ]
    assert at_start("") == []


def test_all_is_all_of_the_store(tmp_path: Path) -> None:
    (tmp_path / "a.mar").touch()
    (tmp_path / "notes.txt").touch()
    assert [one.url for one in at_start("ALL", tmp_path)] == [str(tmp_path / "a.mar")]
    with pytest.raises(ConfigError, match="needs a model store"):
        at_start("all")


def snapshot_of(**members: Any) -> str:
    said = {"defaultVersion": True, "marName": "m.mar", "minWorkers": 2, "maxWorkers": 4}
    return json.dumps({"modelCount": 1, "models": {"m": {"2.0": said | members}}})


def test_a_snapshot_goes_before_the_models_that_are_named(tmp_path: Path) -> None:
    (tmp_path / "m.mar").touch()
    noted = {"batchSize": 8, "maxBatchDelay": 50, "responseTimeout": 7, "startupTimeout": 9}
    (model,) = at_start("all", tmp_path, snapshot_of(**noted))
    assert model == StartupModel(
        url="m.mar",
        options=RegisterOptions(
            model_name="m",
            batch_size=8,
            max_batch_delay=50,
            response_timeout=7,
            startup_timeout=9,
            wins=True,
        ),
        min_workers=2,
        max_workers=4,
        is_default=True,
    )


def test_no_workers_are_no_workers_and_the_usual_delay_was_not_asked_for(tmp_path: Path) -> None:
    (tmp_path / "m.mar").touch()
    noted = {"minWorkers": 0, "maxWorkers": 0, "maxBatchDelay": 100, "defaultVersion": False}
    (model,) = at_start("", tmp_path, snapshot_of(**noted))
    assert (model.min_workers, model.max_workers, model.is_default) == (0, 0, False)
    assert model.options.max_batch_delay is None


def test_an_archive_that_is_missing_stops_the_start(tmp_path: Path) -> None:
    words = r"Model archive file for model :m, version :2\.0 not found in model store"
    for store in (tmp_path, None):
        with pytest.raises(ConfigError, match=words):
            at_start("", store, snapshot_of())
    with pytest.raises(ConfigError, match=words):
        at_start("", tmp_path, snapshot_of(marName=""))


@pytest.mark.parametrize("snapshot", ["{", "[]", '{"models": []}'])
def test_what_is_no_snapshot_is_refused(tmp_path: Path, snapshot: str) -> None:
    with pytest.raises(ConfigError, match=r"torchserve\.snapshot"):
        at_start("", tmp_path, snapshot)


def test_presets_are_positive_numbers_and_workers_those_of_the_start() -> None:
    workers = {"minWorkers": 2, "maxWorkers": 3}
    assert preset_of(MODELS, "m", "1.0", is_at_start=True) == {**workers, "batchSize": 4}
    assert preset_of(MODELS, "m", "1.0", is_at_start=False) == {"batchSize": 4}
    assert preset_of(MODELS, "m", "2.0", is_at_start=True) == {}
    assert preset_of("", "m", "1.0", is_at_start=True) == {}
    assert preset_of('{"m": 3}', "m", "1.0", is_at_start=True) == {}


def described(
    model_yaml: dict[str, Any], options: RegisterOptions, *, is_at_start: bool
) -> ModelDescription:
    manifest = {"model": {"modelName": "m", "handler": "h.py"}}
    files = ModelFiles(Path("/store/m.mar"), Path("/x"), manifest, model_yaml)
    preset = {"minWorkers": 2, "maxWorkers": 3, "batchSize": 4, "responseTimeout": 7}
    presets = partial(preset_of, json.dumps({"m": {"1.0": preset}}), is_at_start=is_at_start)
    return describe(files, options, ServingSettings(), presets)


def test_a_preset_is_weaker_than_the_query_and_the_yaml_of_the_model() -> None:
    got = described({}, RegisterOptions(), is_at_start=True)
    assert (got.batch_size, got.min_workers, got.max_workers) == (4, 2, 3)
    assert got.response_timeout_s == 7
    assert got.origins["batch_size"] == "configuration"
    got = described({"batchSize": 8}, RegisterOptions(initial_workers=1), is_at_start=False)
    assert (got.batch_size, got.min_workers) == (8, 1)
    got = described({}, RegisterOptions(batch_size=16, response_timeout=9), is_at_start=False)
    assert (got.batch_size, got.min_workers) == (16, 0)
    # Not so for timeouts, as in TorchServe.
    assert got.response_timeout_s == 7
