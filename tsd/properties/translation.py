"""A config.properties as tsd's settings: TorchServe's defaults, what the file says, and warnings.

It is the weakest source but for tsd's own defaults; config.py joins them all."""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from tsd.devices import VISIBLE_GPUS, usual_workers
from tsd.errors import ConfigError
from tsd.properties import doors, text
from tsd.properties.forms import NUMBER
from tsd.properties.keys import KEYS, READ_ELSEWHERE, VARIABLES, WITHOUT_MEANING
from tsd.settings import Given, ServingSettings

DEFAULTS_ORIGIN = "TorchServe's default"
MAX_BYTES = 1024 * 1024

DEFAULTS: dict[str, object] = {
    "doors.management": "127.0.0.1:8081",
    "doors.grpc_management": "127.0.0.1:7071",
    "access.tokens": True,
    "access.model_api": False,
    "http.max_request_bytes": 6_553_500,
    "serving.max_answer_bytes": 6_553_500,
    # A request waits there for as long as a worker may take; clients end it sooner.
    "serving.deadline_s": 86_400.0,
    "archives.allowed_urls": ("file://.*", "http(s)?://.*"),
    # Who may register models from everywhere may run code here anyway.
    "archives.private_urls": True,
    "metrics.mode": "log",
    "metrics.auto_detect": False,
    "torchserve.is_strict": True,
}
"""What TorchServe does where its file says nothing, and tsd by itself does otherwise."""

_VARIABLE = re.compile(r"\$\$([^$]{2,})\$\$")
_LOG_FOLDERS = {"LOG_LOCATION": "log.folder", "METRICS_LOCATION": "metrics.folder"}


KNOWN = {*KEYS, *doors.KEYS, *WITHOUT_MEANING, *READ_ELSEWHERE}
HARMLESS = {"keystore_type": "pkcs12"}
"""The one value of a key without meaning that is what tsd does anyway."""

# Shared memory is a default that a very large limit outgrows.
ROOM = {
    "http.max_request_bytes": "serving.arena_bytes",
    "serving.max_answer_bytes": "serving.answers_bytes",
}
MIN_ROOM = ServingSettings().arena_bytes
# What lies beside a body in its slot: headers, and padding.
HEAD_ROOM = 1 << 20


@dataclass(frozen=True)
class Translation:
    """What a file says: settings by dotted key, its own properties, and what has to be told."""

    settings: Mapping[str, Given]
    properties: Mapping[str, str]
    warnings: tuple[str, ...]


def translate(file: Path, environment: Mapping[str, str]) -> Translation:
    """Read a file and the environment that goes with it."""
    given = _read(file, environment)
    properties = {key: one.value for key, one in given.items()}
    settings = {key: Given(value, DEFAULTS_ORIGIN) for key, value in DEFAULTS.items()}
    settings["serving.workers_at_start"] = Given(
        usual_workers(environment.get(VISIBLE_GPUS)), DEFAULTS_ORIGIN
    )
    for key, one in _settings(given):
        settings[key] = one
    for variable, key in _LOG_FOLDERS.items():
        if environment.get(variable):
            settings[key] = Given(environment[variable], f"environment {variable}")
    return Translation(settings | dict(_needed_by(settings)), properties, tuple(_warnings(given)))


@dataclass(frozen=True)
class _Property:
    value: str
    origin: str


def _read(file: Path, environment: Mapping[str, str]) -> dict[str, _Property]:
    """What is said for each key; an empty value says nothing."""
    try:
        with file.open("rb") as opened:
            content = opened.read(MAX_BYTES + 1)
        if len(content) > MAX_BYTES:
            raise ValueError(f"it is larger than {MAX_BYTES} bytes")
        found = text.parse(text.decode(content))
    except OSError as error:
        raise ConfigError(
            f"{file} cannot be read", why=error.strerror or "", fix="check its name and its mode"
        ) from None
    except ValueError as error:
        raise ConfigError(f"{file} is not understood", why=str(error), fix="mend it") from None
    given = {
        key: _Property(_substituted(value, environment, file).strip(), f"{file.name} {key}")
        for key, value in found.items()
    }
    given |= _from_variables(found, environment)
    return {key: one for key, one in given.items() if one.value}


def _substituted(value: str, environment: Mapping[str, str], file: Path) -> str:
    def replacement(found: re.Match[str]) -> str:
        name = found[1]
        if name not in environment:
            raise ConfigError(
                f"Invalid Environment Variable {name}",
                why=f"{file} names it as $${name}$$, and it is not set",
                fix=f"set {name}, or write its value into the file",
            )
        return environment[name]

    return _VARIABLE.sub(replacement, value)


def _from_variables(
    found: Mapping[str, str], environment: Mapping[str, str]
) -> dict[str, _Property]:
    """What TS_… variables say: nothing, unless the file lets them."""
    given = {}
    for key in (*KEYS, *doors.KEYS, *WITHOUT_MEANING):
        name = VARIABLES.get(key, f"TS_{key.upper()}")
        if name in environment and _may_say(key, found):
            given[key] = _Property(environment[name].strip(), f"environment {name}")
    if environment.get("TS_OPEN_INFERENCE_PROTOCOL") == "oip":
        key = "ts_open_inference_protocol"
        given[key] = _Property("true", "environment TS_OPEN_INFERENCE_PROTOCOL")
    return given


def _may_say(key: str, found: Mapping[str, str]) -> bool:
    if key == "allowed_urls" and found.get("use_env_allowed_urls", "").strip().lower() != "true":
        return False
    is_variable = key not in KEYS or KEYS[key].is_variable
    return is_variable and found.get("enable_envvars_config", "").strip().lower() == "true"


def _settings(given: Mapping[str, _Property]) -> Iterator[tuple[str, Given]]:
    """What the keys say, by setting."""
    for key, one in given.items():
        if key in KEYS:
            yield KEYS[key].setting, _converted(one, KEYS[key].form.read)
        elif key in doors.HTTP_KEYS:
            yield doors.HTTP_KEYS[key], _converted(one, partial(doors.read_http, key))
    yield from _grpc_doors(given)
    switch = given.get(doors.METRICS_SWITCH)
    if switch and switch.value.lower() != "true":
        yield "doors.metrics", Given("none", switch.origin)
    workers = given.get("default_workers_per_model")
    if workers and workers.value != "0":
        yield "serving.workers_at_start", _converted(workers, NUMBER.read)


def _grpc_doors(given: Mapping[str, _Property]) -> Iterator[tuple[str, Given]]:
    """Doors of two keys; where one of them is wrong, the first that is there is named."""
    values = {key: one.value for key, one in given.items()}
    for setting, keys in doors.GRPC_KEYS.items():
        said = [given[key] for key in keys if key in given]
        if said:
            yield setting, _converted(said[0], partial(_grpc_door, setting, values))


def _grpc_door(setting: str, values: Mapping[str, str], _value: str) -> str:
    return doors.read_grpc(setting, values)


def _converted(one: _Property, read: Callable[[str], object]) -> Given:
    try:
        return Given(read(one.value), one.origin)
    except ValueError as error:
        raise ConfigError(
            f"{one.origin} cannot be {one.value!r}", why=str(error), fix="mend it there"
        ) from None


def _needed_by(settings: Mapping[str, Given]) -> Iterator[tuple[str, Given]]:
    """Room for the largest request and the largest answer that are asked for."""
    for limit, room in ROOM.items():
        given = settings[limit]
        if isinstance(given.value, int) and given.value + HEAD_ROOM > MIN_ROOM:
            yield room, Given(given.value + HEAD_ROOM, given.origin)


def _warnings(given: Mapping[str, _Property]) -> Iterator[str]:
    """Keys that mean nothing to tsd, and those that mean nothing to anybody."""
    api = given.get("enable_model_api")
    if api and api.value.lower() == "true" and "allowed_urls" not in given:
        yield f"{api.origin}, and allowed_urls is not set: models may come from every URL"
    for key, one in given.items():
        if key in WITHOUT_MEANING and HARMLESS.get(key) != one.value.lower():
            yield f"{one.origin} has no meaning here: {WITHOUT_MEANING[key]}"
        elif key not in KNOWN:
            yield f"{one.origin} is not known{suggestion(key)}"


def suggestion(key: str) -> str:
    """What an unknown key may have been meant to be."""
    near = difflib.get_close_matches(key, KNOWN, n=1)
    return f"; did you mean {near[0]}?" if near else ""
