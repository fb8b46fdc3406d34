"""Every setting of a model, and where it came from."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tsd.errors import BadRequest, InvalidArchive
from tsd.models.description import (
    ModelDescription,
    ModelFiles,
    RegisterOptions,
    describe,
    read_model_yaml,
)
from tsd.settings import ServingSettings

MODEL = {"modelName": "m", "handler": "h.py"}


def described(
    model_yaml: dict[str, Any] | None = None,
    options: RegisterOptions | None = None,
    model: dict[str, Any] | None = None,
) -> ModelDescription:
    files = ModelFiles(
        Path("/store/m.mar"), Path("/x"), {"model": model or MODEL}, model_yaml or {}
    )
    return describe(files, options or RegisterOptions(), ServingSettings(max_workers=8))


def test_without_a_word_torchserves_defaults_hold() -> None:
    got = described()
    assert (got.name, got.version, got.url, got.handler) == ("m", "1.0", "m.mar", "h.py")
    assert (got.batch_size, got.max_batch_delay_ms, got.min_workers) == (1, 100, 0)
    assert (got.response_timeout_s, got.startup_timeout_s, got.queue_size) == (120, 120, 100)
    assert got.is_idempotent
    assert got.deadline_s is None


def test_a_delay_is_waited_for_only_when_somebody_asked_for_it() -> None:
    assert described().batch_delay_s == 0
    assert described({"maxBatchDelay": 30}).batch_delay_s == 0.03
    assert described(options=RegisterOptions(max_batch_delay=7)).batch_delay_s == 0.007


def test_a_delay_of_nothing_can_be_asked_for() -> None:
    asked = described({"maxBatchDelay": 30}, RegisterOptions(max_batch_delay=0))
    assert (asked.batch_delay_s, asked.origins["max_batch_delay_ms"]) == (0, "request")


def test_other_limits_of_batches_are_as_if_the_registration_had_asked_for_them() -> None:
    model_yaml = {"batchSize": 4, "maxBatchDelay": 30}
    for asked in (RegisterOptions(batch_size=8), RegisterOptions(max_batch_delay=0)):
        changed = described(model_yaml).rebatched(asked.batch_size, asked.max_batch_delay)
        assert changed == described(model_yaml, asked)


def test_the_yaml_wins_over_the_query_for_workers_and_timeouts_only() -> None:
    model_yaml = {
        "minWorkers": 2,
        "maxWorkers": 3,
        "batchSize": 4,
        "responseTimeout": 9,
        "clientTimeoutInMills": 1500,
        "jobQueueSize": 7,
        "deviceType": "cpu",
        "idempotent": False,
    }
    asked = RegisterOptions(batch_size=16, response_timeout=5, initial_workers=1, handler="o.py")
    got = described(model_yaml, asked)
    assert (got.min_workers, got.max_workers) == (2, 3)
    assert (got.batch_size, got.response_timeout_s) == (16, 9)
    assert (got.deadline_s, got.queue_size, got.device_type) == (1.5, 7, "cpu")
    assert not got.is_idempotent
    assert got.origins["batch_size"] == "request"
    assert got.origins["response_timeout_s"] == "model-config.yaml"
    assert got.handler == "o.py"


def test_without_a_yaml_the_query_counts() -> None:
    asked = RegisterOptions(response_timeout=5, startup_timeout=6, initial_workers=3)
    got = described(options=asked)
    assert (got.response_timeout_s, got.startup_timeout_s, got.min_workers) == (5, 6, 3)


@pytest.mark.parametrize(
    "model_yaml", [{"minWorkers": 3, "maxWorkers": 2}, {"minWorkers": "2", "maxWorkers": True}]
)
def test_worker_counts_that_do_not_fit_are_ignored(model_yaml: dict[str, Any]) -> None:
    assert described(model_yaml, RegisterOptions(initial_workers=1)).max_workers == 1


def test_bounds_hold_whatever_is_asked() -> None:
    assert described({"minWorkers": 500, "maxWorkers": 900}).min_workers == 8
    assert described({"batchSize": 1_000_000}).batch_size == 1024


@pytest.mark.parametrize("name", ["-x", "a/b", "a b", "x" * 129, "ü", "a\n"])
def test_a_name_that_is_none_is_refused(name: str) -> None:
    with pytest.raises(BadRequest):
        described(model={"modelName": name})


@pytest.mark.parametrize(
    "text",
    [
        "- a list",
        "a: [1",
        "a: !!python/object:os.system {}",
        "a: &x [1, 2]\nb: *x",
        "a: " + "[" * 3000,
        "released: 2024-02-30",
        "a: " + "x" * 70_000,
        "a: " + "x" * 300_000,
        "a: \xff".encode("latin-1").decode("latin-1") + "\x00",
    ],
)
def test_a_yaml_that_could_do_harm_is_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "c.yaml"
    path.write_text(text)
    with pytest.raises(InvalidArchive):
        read_model_yaml(path)


def test_a_yaml_is_read_as_json_has_it(tmp_path: Path) -> None:
    path = tmp_path / "c.yaml"
    path.write_text("minWorkers: 1\nhandler: {day: 2026-11-22, 5: x}\n")
    assert read_model_yaml(path) == {
        "minWorkers": 1,
        "handler": {"day": "2026-11-22", "5": "x"},
    }
    path.write_text("")
    assert read_model_yaml(path) == {}


def test_a_name_comes_from_the_request_the_archive_or_the_file() -> None:
    nameless = {"handler": "h.py"}
    asked = RegisterOptions(model_name="asked", default_name="default")
    assert described(model=nameless, options=asked).name == "asked"
    assert described(options=RegisterOptions(default_name="default")).name == "m"
    assert described(model=nameless, options=RegisterOptions(default_name="d")).name == "d"
    with pytest.raises(InvalidArchive, match=r"Model name is not defined\."):
        described(model=nameless)


def test_an_archive_that_names_no_handler_gets_the_default_one() -> None:
    files = ModelFiles(Path("/store/m.mar"), Path("/x"), {"model": {"modelName": "m"}}, {})
    with_default = ServingSettings(default_handler="mine.py:handle")
    assert describe(files, RegisterOptions(), with_default).handler == "mine.py:handle"
    assert describe(files, RegisterOptions(handler="own"), with_default).handler == "own"
    with pytest.raises(InvalidArchive, match="names no handler"):
        describe(files, RegisterOptions(), ServingSettings())


def test_a_bare_model_file_needs_no_handler() -> None:
    files = ModelFiles(Path("/store/m.pt"), Path("/x"), {"model": {"modelName": "m"}}, {})
    assert describe(files, RegisterOptions(), ServingSettings(default_handler="d")).handler == ""


def test_a_model_is_known_by_the_url_it_came_from() -> None:
    files = ModelFiles(Path("/s/m.mar"), Path("/x"), {"model": MODEL}, {}, "http://h/m.mar")
    assert describe(files, RegisterOptions(), ServingSettings()).url == "http://h/m.mar"


@pytest.mark.parametrize("text", ["a: " + "[" * 20_000, "a: " + "{b: " * 200, "a: " + "[{" * 60])
def test_a_configuration_that_is_nested_too_deeply_is_refused_at_once(
    tmp_path: Path, text: str
) -> None:
    (tmp_path / "c.yaml").write_text(text)
    with pytest.raises(InvalidArchive, match="nested too deeply"):
        read_model_yaml(tmp_path / "c.yaml")
