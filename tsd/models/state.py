"""The desired state on disk: which models, versions, workers and default versions are wanted.

Written whole, atomically and durably (write aside, fsync, rename, fsync of the directory); the
generation before is kept. Everything here may block: callers run it on an executor's thread."""

from __future__ import annotations

from pathlib import Path

import msgspec

from tsd import durable

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


def save(folder: Path, state: DesiredState) -> None:
    """Replace the state on disk; OSError when that fails, and then the old one still stands."""
    durable.replace(
        folder / FILE_NAME, msgspec.json.format(msgspec.json.encode(state), indent=2) + b"\n"
    )


def read(folder: Path) -> tuple[DesiredState, str]:
    """The state, and what is wrong with it: "" when nothing is.

    A damaged file is set aside as `.bad`, and the generation before is taken."""
    state, trouble = durable.read(folder / FILE_NAME, _decoded)
    if state is None:
        return DesiredState(), f"{trouble}: no model is restored" if trouble else ""
    return state, trouble


def _decoded(content: bytes) -> DesiredState:
    state = msgspec.json.decode(content, type=DesiredState)
    if state.format != FORMAT:
        raise ValueError(f"format {state.format}; this release reads {FORMAT}")
    return state
