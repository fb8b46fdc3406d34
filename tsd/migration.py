"""From a config.properties to the tsd.toml that means the same, and what became of each key.

Shown by `tsctl migrate`; the translation itself is in properties/."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from tsd.config import Places, load, render, values
from tsd.properties import doors
from tsd.properties.keys import KEYS, READ_ELSEWHERE, WITHOUT_MEANING
from tsd.properties.translation import suggestion, translate

Verdict = Literal["same", "changed", "gone"]


@dataclass(frozen=True)
class Row:
    """What became of one key: its setting, if it has one, and what is to be known about that."""

    key: str
    verdict: Verdict
    becomes: str = ""
    why: str = ""


@dataclass(frozen=True)
class Migration:
    """The text of a tsd.toml, a row for each key of the file, and what else is to be known."""

    toml: str
    table: list[Row]
    warnings: tuple[str, ...]


def migrate(file: Path, environment: Mapping[str, str], places: Places) -> Migration:
    """Translate a file; variables that it names are replaced by what they are now."""
    outside = {name: v for name, v in environment.items() if not name.startswith("TSD_")}
    nothing = {"ts_config": file, "config": "/dev/null"}
    loaded = load(nothing, outside, places)
    said = [key for key, origin in loaded.origins.items() if origin != "default"]
    settings = values(loaded.config)
    translation = translate(file, outside)
    rows = [_row(key, settings) for key in translation.properties]
    told = tuple(one for one in loaded.warnings if one not in translation.warnings)
    head = f"# What {file.name} says, and what TorchServe does where it says nothing.\n\n"
    return Migration(head + render(loaded, said), rows, told)


def _row(key: str, settings: Mapping[str, object]) -> Row:
    if key in KEYS:
        one = KEYS[key]
        verdict: Verdict = "changed" if one.note else "same"
        return Row(key, verdict, f"{one.setting} = {settings[one.setting]}", one.note)
    if key in doors.KEYS:
        setting = next(iter(_doors_of(key)))
        return Row(key, "same", f"{setting} = {settings[setting]}")
    if key in WITHOUT_MEANING:
        return Row(key, "gone", why=WITHOUT_MEANING[key])
    if key in READ_ELSEWHERE:
        return Row(key, "gone", why="variables named TSD_… always count, TS_… never do")
    return Row(key, "gone", why=f"TorchServe has no such key{suggestion(key)}")


def _doors_of(key: str) -> Iterator[str]:
    if key in doors.HTTP_KEYS:
        yield doors.HTTP_KEYS[key]
    yield from (setting for setting, keys in doors.GRPC_KEYS.items() if key in keys)
    yield doors.HTTP_KEYS["metrics_address"]
