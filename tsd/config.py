"""Where the settings' values come from.

A `Config` is made by `load`, then frozen; a reload makes a new one. Sources, strongest first:
command line, environment (`TSD_*`), drop-ins (`tsd.toml.d/*.toml`), `tsd.toml`, defaults.
The environment is read by systemd.py; each room checks what only it can know."""

from __future__ import annotations

import difflib
import ipaddress
import json
import os
import re
import tomllib
import typing
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import msgspec

from tsd.errors import ConfigError
from tsd.settings import Config

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
    "--log-level": "log.level",
}
"""Options of the command line that are settings, too."""

RESTART_KEYS = (
    *("runtime_dir", "state_dir", "python", "models", "http.backlog"),
    *("doors.http", "doors.management", "doors.metrics", "doors.grpc"),
    *("log.format", "log.kept_records"),
)
"""Settings that a reload cannot change."""

OTHER_VARIABLES = {"TSD_CONFIG", "TSD_SOCKET"}
"""Names in the environment that are ours and no settings: the file's, and tsctl's."""

LOCAL_ONLY = "keep to 127.0.0.1 or [::1]; from afar come by an SSH tunnel or a reverse proxy"
REMEDIES = {
    "doors.http": LOCAL_ONLY,
    "doors.management": LOCAL_ONLY,
    "doors.metrics": LOCAL_ONLY,
    "doors.grpc": 'leave it at "none", and use the HTTP door',
}
"""What to do about a value that another text than its setting's meaning explains better."""

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
class Given:
    """What one source says about one setting."""

    value: object
    origin: str


@dataclass(frozen=True)
class Address:
    """Where a door listens."""

    host: str
    port: int


@dataclass(frozen=True)
class Loaded:
    """A configuration, and where each of its values came from."""

    config: Config
    origins: dict[str, str]


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
    for key, one in (
        *_from_files(file, must_exist=bool(named)),
        *_from_environment(environment),
        *_from_arguments(arguments),
    ):
        given[key] = Given(_checked(key, one), one.origin)
    config = _build(Config, {key: one.value for key, one in given.items()})
    origins = {key: one.origin for key, one in given.items()}
    _check_together(config, origins)
    return Loaded(config, origins)


def parse_address(text: str) -> Address | None:
    """The address of a door, None for `none`; ValueError says what is wrong with it."""
    if text == "none":
        return None
    found = re.fullmatch(r"(?:\[([^\[\]]+)\]|([^:\[\]]+)):([0-9]{1,5})", text)
    if not found or int(found[3]) > 65_535:
        raise ValueError("it is neither ADDRESS:PORT nor none")
    host = "127.0.0.1" if found[2] == "localhost" else found[1] or found[2]
    try:
        is_local = ipaddress.ip_address(host).is_loopback
    except ValueError:
        raise ValueError(f"{host!r} is not an IP address") from None
    if not is_local:
        raise ValueError(
            "it can be reached from other machines: that needs a token, which this release lacks"
        )
    return Address(host, int(found[3]))


def render(loaded: Loaded) -> str:
    """All settings as TOML that `load` reads back, each with its meaning and its origin."""
    lines: list[str] = []
    for key, value in values(loaded.config).items():
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
    """The value as its setting's type; only the environment spells numbers as text."""
    try:
        value: object = msgspec.convert(
            given.value,
            SETTINGS[key].type,
            strict=not given.origin.startswith("environment "),
            dec_hook=_path,
        )
        if not str(value).isprintable():
            raise ValueError("it contains control characters")
        _check_meaning(key, value)
    except ValueError as error:
        raise ConfigError(
            f"{given.origin}: {key} cannot be {given.value!r}",
            why=str(error),
            fix=REMEDIES.get(key) or _remedy(key),
        ) from None
    return value


def _path(_type: type, value: object) -> Path:
    if not isinstance(value, str | Path) or not str(value):
        raise ValueError("it is not a path")
    return Path(value).absolute()


def _check_meaning(key: str, value: object) -> None:
    """What a type cannot say."""
    if key == "doors.grpc" and value != "none":
        raise ValueError("gRPC comes with a later release")
    if key.startswith("doors."):
        parse_address(str(value))
    if key == "runtime_dir" and len(os.fsencode(str(value))) > LONGEST_RUNTIME_DIR:
        raise ValueError(f"a socket's path is too long in it; {LONGEST_RUNTIME_DIR} bytes fit")


def _check_together(config: Config, origins: Mapping[str, str]) -> None:
    """A default must lie within its bound, and the largest request must fit into an arena."""
    found = values(config)
    for smaller, larger in NOT_ABOVE.items():
        if typing.cast(float, found[smaller]) > typing.cast(float, found[larger]):
            raise ConfigError(
                f"{smaller} = {found[smaller]} is above {larger} = {found[larger]}",
                why=f"they come from: {origins[smaller]}; {origins[larger]}",
                fix=f"lower {smaller}, or raise {larger}",
            )


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
    if isinstance(value, int | float):
        return repr(value)
    return json.dumps(str(value), ensure_ascii=False)
