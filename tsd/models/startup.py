"""What is served from the start: the models that the settings name, or those of a snapshot.

The settings that name them may be TorchServe's JSON, by name and version, with its members."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tsd.errors import ConfigError
from tsd.log import get_logger
from tsd.models.description import RegisterOptions
from tsd.models.store import store_archives
from tsd.settings import Config

OF_WORKERS = ("minWorkers", "maxWorkers")
NUMBERS = (*OF_WORKERS, "batchSize", "maxBatchDelay", "responseTimeout", "startupTimeout")
"""Members that count; TorchServe reads no others, and a model's own file has the same names."""

USUAL_DELAY_MS = 100

log = get_logger()


@dataclass(frozen=True, slots=True)
class StartupModel:
    """One model to load: from where, and for a version of a snapshot, how it was served."""

    url: str
    options: RegisterOptions
    min_workers: int | None = None
    max_workers: int = 0
    is_default: bool = False


def models_at_start(config: Config) -> list[StartupModel]:
    """What to load; the models of a snapshot instead of those that `models` names.

    ConfigError where a snapshot's archive is missing."""
    if config.torchserve.snapshot:
        return _of_snapshot(config.torchserve.snapshot, config.model_store)
    return list(_named(config.models, config.model_store))


def preset_of(models: str, name: str, version: str, *, is_at_start: bool) -> dict[str, int]:
    """What `torchserve.models` says about a version; its workers are those to start with."""
    said = _tree(models, "torchserve.models").get(name)
    one = said.get(version) if isinstance(said, dict) else None
    numbers = _numbers(one, f"{name} {version}") if isinstance(one, dict) else {}
    return {key: n for key, n in numbers.items() if is_at_start or key not in OF_WORKERS}


def _named(models: str, store: Path | None) -> Iterator[StartupModel]:
    """NAME=ARCHIVE, ARCHIVE, or `all` of the model store."""
    if models.strip().lower() == "all":
        if store is None:
            raise ConfigError("`models = all` needs a model store.", fix="give --model-store DIR")
        for path in store_archives(store):
            yield StartupModel(str(path), RegisterOptions())
        return
    for word in filter(None, (word.strip() for word in models.split(","))):
        name, has_name, url = word.partition("=")
        # What looks like a name may be a URL up to its query.
        is_named = bool(has_name) and "/" not in name
        options = RegisterOptions(model_name=name.strip() if is_named else None)
        yield StartupModel(_url(url.strip() if is_named else word, store), options)


def _url(word: str, store: Path | None) -> str:
    """A name of the store, or a path as the caller's shell sees it."""
    in_store = store is not None and (store / word).exists()
    return word if in_store or not Path(word).exists() else str(Path(word).absolute())


def _of_snapshot(snapshot: str, store: Path | None) -> list[StartupModel]:
    models = _tree(snapshot, "torchserve.snapshot").get("models", {})
    if not isinstance(models, dict):
        raise ConfigError("torchserve.snapshot has no models", fix="take another snapshot")
    found = []
    for name, versions in models.items():
        for version, said in versions.items() if isinstance(versions, dict) else ():
            url = str(said.get("marName", "")) if isinstance(said, dict) else ""
            if store is None or not url or not (store / url).exists():
                raise ConfigError(
                    f"Model archive file for model :{name}, version :{version} "
                    "not found in model store",
                    why=f"the snapshot names {url!r}, the model store is {store}",
                    fix="put the archive there, or start without this snapshot",
                )
            found.append(_snapshot_model(name, version, url, said))
    return found


def _snapshot_model(name: str, version: str, url: str, said: Mapping[str, Any]) -> StartupModel:
    numbers = _numbers(said, f"{name} {version}")
    delay_ms = numbers.get("maxBatchDelay")
    return StartupModel(
        url=url,
        options=RegisterOptions(
            model_name=name,
            batch_size=numbers.get("batchSize"),
            # TorchServe notes its default like any other; who asked for none waits for none.
            max_batch_delay=None if delay_ms == USUAL_DELAY_MS else delay_ms,
            response_timeout=numbers.get("responseTimeout"),
            startup_timeout=numbers.get("startupTimeout"),
            wins=True,
        ),
        min_workers=numbers.get("minWorkers", 0),
        max_workers=max(numbers.get("minWorkers", 0), numbers.get("maxWorkers", 0)),
        is_default=said.get("defaultVersion") is True,
    )


def _tree(text: str, key: str) -> dict[str, Any]:
    try:
        tree = json.loads(text or "{}")
    except (ValueError, RecursionError) as error:
        raise ConfigError(f"{key} is not JSON", why=str(error), fix="mend it") from None
    if not isinstance(tree, dict):
        raise ConfigError(f"{key} is no JSON object", fix="mend it")
    return tree


def _numbers(said: Mapping[str, Any], which: str) -> dict[str, int]:
    """The positive whole numbers; what else is said is named, and does not count."""
    numbers = {}
    for key in NUMBERS:
        value = said.get(key)
        if type(value) is int and value > 0:
            numbers[key] = value
        elif value is not None and value != 0:
            log.warning("%s: %s cannot be %r; it is left out", which, key, value)
    return numbers
