"""The desired state on disk: which models, versions, workers and default versions are wanted.

Written whole, atomically and durably (write aside, fsync, rename, fsync of the directory); the
generation before is kept. Everything here may block: callers run it on an executor's thread."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

import msgspec

FORMAT = 1
FILE_NAME = "desired-state.json"


class DesiredVersion(msgspec.Struct, frozen=True):
    """One version of one model, as the operator asked for it. `source`: where it was taken from.

    `url`: from where that had been downloaded, if it was."""

    source: str
    model_dir: str
    workers: int
    options: dict[str, bool | int | str] = {}
    url: str = ""


class DesiredModel(msgspec.Struct, frozen=True):
    """All versions of one model."""

    default_version: str
    versions: dict[str, DesiredVersion]


class DesiredState(msgspec.Struct, frozen=True):
    """All models, by name."""

    format: int = FORMAT
    models: dict[str, DesiredModel] = {}


class Damaged(Exception):
    """A state file that cannot be read; kept beside, as `.bad`."""


def save(folder: Path, state: DesiredState) -> None:
    """Replace the state on disk; OSError when that fails, and then the old one still stands."""
    path = folder / FILE_NAME
    aside = path.with_suffix(".new")
    with aside.open("wb") as file:
        file.write(msgspec.json.format(msgspec.json.encode(state), indent=2) + b"\n")
        file.flush()
        os.fsync(file.fileno())
    previous = path.with_suffix(".previous")
    with contextlib.suppress(FileNotFoundError):
        previous.unlink()
    with contextlib.suppress(FileNotFoundError):
        os.link(path, previous)
    aside.rename(path)
    _sync_folder(folder)


def read(folder: Path) -> tuple[DesiredState, str]:
    """The state, and what is wrong with it: "" when nothing is.

    A damaged file is set aside as `.bad`, and the generation before is taken."""
    path = folder / FILE_NAME
    try:
        return _read_file(path), ""
    except FileNotFoundError:
        return DesiredState(), ""
    except Damaged as damage:
        path.rename(path.with_suffix(".bad"))
        trouble = f"{path.name} was damaged ({damage}) and is kept as {path.stem}.bad"
    try:
        return _read_file(
            path.with_suffix(".previous")
        ), f"{trouble}; the generation before is used"
    except (FileNotFoundError, Damaged):
        return DesiredState(), f"{trouble}; there is no generation before: no model is restored"


def _read_file(path: Path) -> DesiredState:
    try:
        state = msgspec.json.decode(path.read_bytes(), type=DesiredState)
    except msgspec.DecodeError as error:
        raise Damaged(str(error)) from error
    if state.format != FORMAT:
        raise Damaged(f"format {state.format}; this release reads {FORMAT}")
    return state


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
