"""Where the settings' values come from.

A `Config` is made by `load`, then frozen; a reload makes a new one. Sources, strongest first:
command line, environment (`TSD_*`), drop-ins (`tsd.toml.d/*.toml`), `tsd.toml`, TorchServe's
`config.properties` if one is given (properties/), defaults. The environment is read by systemd.py;
each room checks what only it can know."""

from __future__ import annotations

import difflib
import json
import os
import re
import tomllib
import typing
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import msgspec

from tsd.addresses import GRPC_DOORS, HTTP_DOORS, check_door, open_to_others
from tsd.durations import seconds
from tsd.errors import ConfigError
from tsd.properties.translation import DEFAULTS_ORIGIN, Translation, translate
from tsd.settings import Config, Given

OPTIONS = {
    "--model-store": "model_store",
    "--models": "models",
    "--runtime-dir": "runtime_dir",
    "--state-dir": "state_dir",
    "--python": "python",
    "--http": "doors.http",
    "--management": "doors.management",
    "--metrics": "doors.metrics",
    "--grpc": "doors.grpc",
    "--grpc-management": "doors.grpc_management",
    "--log-level": "log.level",
    "--exit-on-idle": "exit_on_idle_s",
}
"""Options of the command line that are settings, too."""

RESTART_KEYS = (
    *("runtime_dir", "state_dir", "python", "models", "http.backlog", "exit_on_idle_s"),
    *HTTP_DOORS,
    *GRPC_DOORS,
    *("doors.remote", "torchserve.snapshot", "torchserve.snapshot_dir"),
    *("torchserve.is_strict", "torchserve.open_inference"),
    *("access.tokens", "access.key_file", "access.token_lifetime_s", "access.model_api"),
    *("cors.origin", "cors.methods", "cors.headers"),
    *("serving.sequence_id_header", "serving.sequence_start_header"),
    "serving.sequence_end_header",
    *("metrics.mode", "metrics.file", "metrics.auto_detect", "metrics.system"),
    *("metrics.interval_s", "metrics.folder", "metrics.max_series"),
    *("log.format", "log.kept_records", "log.folder", "log.file_bytes", "log.kept_files"),
    *("tls.grpc", "grpc.max_streams", "grpc.max_connections"),
    *("grpc.max_connection_age_s", "grpc.max_connection_age_grace_s"),
)
"""Settings that a reload cannot change."""

OTHER_VARIABLES = {"TSD_CONFIG", "TSD_TS_CONFIG", "TSD_SOCKET"}
"""Names in the environment that are ours and no settings: the files', and tsctl's."""

LOCAL_ONLY = (
    "keep to 127.0.0.1 or [::1] and come by an SSH tunnel or a reverse proxy; "
    'or set access.tokens = true and doors.remote = "with-token"'
)
OPEN_TO_ANYONE = (
    "%s is open to other machines without a token: whoever reaches it may use it. "
    "Better let TorchServe's tokens on, or listen on 127.0.0.1 behind a reverse proxy"
)

NOT_ABOVE = {
    "serving.default_workers": "serving.max_workers",
    "http.max_request_bytes": "serving.arena_bytes",
    "http.max_header_bytes": "http.max_headers_bytes",
}
"""Settings that another one bounds."""

# A Unix socket's path has room for 107 bytes, and the longest name in this directory is this.
LONGEST_RUNTIME_DIR = 107 - len("/control.sock")


@dataclass(frozen=True)
class Setting:
    """One setting: its dotted key, what it may be, what it is unless told, what it is for."""

    key: str
    type: Any
    default: object
    meaning: str


@dataclass(frozen=True)
class Loaded:
    """A configuration, where each of its values came from, and what has to be told about it."""

    config: Config
    origins: dict[str, str]
    warnings: tuple[str, ...] = ()


class Places(Protocol):
    """Where things are unless a setting says otherwise: systemd.Places fits."""

    @property
    def runtime_dir(self) -> Path: ...
    @property
    def state_dir(self) -> Path: ...
    @property
    def config_file(self) -> Path: ...


def load(arguments: Mapping[str, object], environment: Mapping[str, str], places: Places) -> Loaded:
    """Join all sources; of `arguments`, by option name, those that are not None count."""
    given = {key: Given(setting.default, "default") for key, setting in SETTINGS.items()}
    given["runtime_dir"] = Given(places.runtime_dir, "default")
    given["state_dir"] = Given(places.state_dir, "default")
    named = arguments.get("config") or environment.get("TSD_CONFIG")
    file = Path(str(named)) if named else places.config_file
    translation = _from_properties(arguments, environment)
    for key, one in (
        *translation.settings.items(),
        *_from_files(file, must_exist=bool(named)),
        *_from_environment(environment),
        *_from_arguments(arguments),
    ):
        given[key] = Given(_checked(key, one), one.origin)
    given["doors.remote"] = _remote(given, translation)
    config = _build(Config, {key: one.value for key, one in given.items()})
    origins = {key: one.origin for key, one in given.items()}
    _check_together(config, origins)
    is_for_anyone = config.doors.remote == "anyone"
    told = [OPEN_TO_ANYONE % key for key in open_to_others(values(config)) if is_for_anyone]
    return Loaded(config, origins, (*translation.warnings, *told))


def render(loaded: Loaded, keys: Iterable[str] | None = None) -> str:
    """These settings, or all, as TOML that `load` reads back, with their meanings and origins."""
    lines: list[str] = []
    found = values(loaded.config)
    for key in found if keys is None else keys:
        value = found[key]
        section, _, name = key.rpartition(".")
        if section and f"[{section}]" not in lines:
            lines.append(f"[{section}]")
        assignment = f"# {name} =" if value is None else f"{name} = {_toml(value)}"
        lines += [f"# {SETTINGS[key].meaning} From: {loaded.origins[key]}", assignment, ""]
    return "\n".join(lines)


def changed(old: Config, new: Config) -> list[str]:
    """The keys of the settings that differ."""
    before = values(old)
    return [key for key, value in values(new).items() if value != before[key]]


def reloaded(old: Config, new: Config) -> Config:
    """The new configuration, with the old values of what only a restart can change."""
    before = values(old)
    kept = {key: before[key] for key in RESTART_KEYS}
    return typing.cast(Config, _build(Config, values(new) | kept))


def values(config: Config) -> dict[str, object]:
    """Every setting's value by its dotted key, in the order of this file."""
    found: dict[str, object] = {}
    for key in SETTINGS:
        value: object = config
        for name in key.split("."):
            value = getattr(value, name)
        found[key] = value
    return found


def _settings(struct: type[msgspec.Struct], prefix: str = "") -> Iterator[Setting]:
    for field in msgspec.structs.fields(struct):
        if isinstance(field.type, type) and issubclass(field.type, msgspec.Struct):
            yield from _settings(field.type, f"{prefix}{field.name}.")
        else:
            meaning = next(m.description for m in field.type.__metadata__ if m.description)
            yield Setting(prefix + field.name, field.type, field.default, meaning)


SETTINGS = {setting.key: setting for setting in _settings(Config)}
SECTIONS = {key.rpartition(".")[0] for key in SETTINGS}

VARIABLES = {
    **{"TSD_" + key.upper().replace(".", "_"): key for key in SETTINGS},
    **{"TSD_" + option[2:].upper().replace("-", "_"): key for option, key in OPTIONS.items()},
}
"""Names in the environment; those of the command line's options come last and so win."""


def _from_files(file: Path, *, must_exist: bool) -> Iterator[tuple[str, Given]]:
    """The file, then its drop-ins in the order of their names; only a named file must be there."""
    if must_exist or file.exists():
        yield from _from_file(file, str(file))
    folder = file.with_name(file.name + ".d")
    for drop_in in sorted(folder.glob("*.toml")):
        yield from _from_file(drop_in, f"{folder.name}/{drop_in.name}")


def _from_file(file: Path, origin: str) -> Iterator[tuple[str, Given]]:
    try:
        tree = tomllib.loads(file.read_text("utf-8"))
    except OSError as error:
        raise ConfigError(
            f"{file} cannot be read", why=error.strerror or "", fix="check its name and its mode"
        ) from None
    except ValueError as error:  # tomllib's says the line, the other one that it is not UTF-8
        raise ConfigError(
            f"{origin} is not TOML", why=str(error), fix=f"mend {file}, then tsd --check-config"
        ) from None
    for key, value in _flat(tree):
        if key not in SETTINGS:
            raise _unknown("setting", key, origin, SETTINGS)
        yield key, Given(value, origin)


def _from_properties(
    arguments: Mapping[str, object], environment: Mapping[str, str]
) -> Translation:
    named = arguments.get("ts_config") or environment.get("TSD_TS_CONFIG")
    return translate(Path(str(named)), environment) if named else Translation({}, {}, ())


def _flat(tree: Mapping[str, object], prefix: str = "") -> Iterator[tuple[str, object]]:
    """Dotted keys; a section that is empty says nothing, but its name must be right."""
    for name, value in tree.items():
        key = prefix + name
        if isinstance(value, dict) and value:
            yield from _flat(value, f"{key}.")
        elif value != {} or key not in SECTIONS:
            yield key, value


def _from_environment(environment: Mapping[str, str]) -> Iterator[tuple[str, Given]]:
    for name in environment:
        if name.startswith("TSD_") and name not in VARIABLES.keys() | OTHER_VARIABLES:
            raise _unknown("variable", name, "environment", VARIABLES)
    for name, key in VARIABLES.items():
        if environment.get(name):
            yield key, Given(environment[name], f"environment {name}")


def _from_arguments(arguments: Mapping[str, object]) -> Iterator[tuple[str, Given]]:
    for option, key in OPTIONS.items():
        value = arguments.get(option[2:].replace("-", "_"))
        if value is not None:
            yield key, Given(value, f"command line {option}")


def _checked(key: str, given: Given) -> object:
    """The value as its setting's type; only the environment spells numbers and lists as text."""
    said, is_variable = given.value, given.origin.startswith("environment ")
    if is_variable and isinstance(SETTINGS[key].default, tuple):
        said = [word.strip() for word in str(said).split(",")]
    try:
        if key.endswith("_s") and isinstance(said, str):
            said = seconds(said)
        value: object = msgspec.convert(
            said,
            SETTINGS[key].type,
            strict=not is_variable,
            dec_hook=_path,
        )
        if not str(value).isprintable():
            raise ValueError("it contains control characters")
        _check_meaning(key, value)
    except ValueError as error:
        raise ConfigError(
            f"{given.origin}: {key} cannot be {given.value!r}",
            why=str(error),
            fix=_remedy(key),
        ) from None
    return value


def _path(_type: type, value: object) -> Path:
    if not isinstance(value, str | Path) or not str(value):
        raise ValueError("it is not a path")
    return Path(value).absolute()


def _check_meaning(key: str, value: object) -> None:
    """What a type cannot say."""
    if key in (*HTTP_DOORS, *GRPC_DOORS):
        check_door(key, str(value))
    if key == "archives.allowed_urls" and isinstance(value, tuple):
        _check_patterns(value)
    if key == "serving.hidden_variables":
        _check_patterns([str(value)])
    if key == "runtime_dir" and len(os.fsencode(str(value))) > LONGEST_RUNTIME_DIR:
        raise ValueError(f"a socket's path is too long in it; {LONGEST_RUNTIME_DIR} bytes fit")


def _check_patterns(patterns: Iterable[str]) -> None:
    """ValueError where one is no regular expression."""
    for pattern in patterns:
        try:
            re.compile(pattern)
        except re.error as error:
            raise ValueError(f"{pattern!r} is no regular expression: {error}") from None


def _check_together(config: Config, origins: Mapping[str, str]) -> None:
    """What no setting says alone: bounds within others, and who may come from afar."""
    found = values(config)
    for smaller, larger in NOT_ABOVE.items():
        if typing.cast(float, found[smaller]) > typing.cast(float, found[larger]):
            raise ConfigError(
                f"{smaller} = {found[smaller]} is above {larger} = {found[larger]}",
                why=f"they come from: {origins[smaller]}; {origins[larger]}",
                fix=f"lower {smaller}, or raise {larger}",
            )
    _check_remote(config, origins)


def admits_others(config: Config) -> bool:
    """Whether doors may be open to other machines."""
    remote = config.doors.remote
    return remote == "anyone" or (remote == "with-token" and config.access.tokens)


def _check_remote(config: Config, origins: Mapping[str, str]) -> None:
    if admits_others(config):
        return
    lacking = "doors.remote is no" if config.doors.remote == "no" else "access.tokens is false"
    for key in open_to_others(values(config)):
        raise ConfigError(
            f"{origins[key]}: {key} cannot be {values(config)[key]!r}",
            why=f"it can be reached from other machines, and {lacking}",
            fix=LOCAL_ONLY,
        )


def _remote(found: Mapping[str, Given], translation: Translation) -> Given:
    """TorchServe opens its doors to all whom its file names, with its tokens or without."""
    said, settings = found["doors.remote"], {key: one.value for key, one in found.items()}
    if said.origin != "default" or not translation.settings or not open_to_others(settings):
        return said
    return Given("with-token" if settings["access.tokens"] else "anyone", DEFAULTS_ORIGIN)


def _remedy(key: str) -> str:
    setting = SETTINGS[key]
    default = "" if setting.default in (None, "") else f" The default is {setting.default}."
    choices = typing.get_args(typing.get_args(setting.type)[0])
    if choices and all(isinstance(choice, str) for choice in choices):
        return f"Choose one of {', '.join(choices)}.{default}"
    return f"{setting.meaning}{default}"


def _unknown(kind: str, name: str, origin: str, known: Mapping[str, object]) -> ConfigError:
    near = difflib.get_close_matches(name, known, n=1)
    return ConfigError(
        f"{origin}: unknown {kind} {name}",
        why=f"no {kind} of that name exists",
        fix=f"did you mean {near[0]}?" if near else "tsd --print-config shows all settings",
    )


def _build(struct: type[msgspec.Struct], found: Mapping[str, object], prefix: str = "") -> Any:
    """The nested structs from checked values by dotted key."""
    parts = {
        field.name: found[prefix + field.name]
        if prefix + field.name in found
        else _build(field.type, found, f"{prefix}{field.name}.")
        for field in msgspec.structs.fields(struct)
    }
    return struct(**parts)


def _toml(value: object) -> str:
    """Numbers as they are, texts and paths quoted: JSON's escapes are TOML's, too."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, tuple):
        return f"[{', '.join(_toml(one) for one in value)}]"
    if isinstance(value, int | float):
        return repr(value)
    return json.dumps(str(value), ensure_ascii=False)
