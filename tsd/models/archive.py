"""From what an operator names to an unpacked, checked model directory.

Takes archives (extraction.py), directories that look like an unpacked one, and bare model files
(TorchScript `.pt`, `.pt2`). Everything here may block: callers run it on an executor's thread.
Its bounds are the settings `archives.*`; a directory appears whole, by rename, or not at all."""

from __future__ import annotations

import json
import re
import shutil
import tempfile
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

from tsd.errors import InvalidArchive
from tsd.models.description import BARE_SUFFIXES, ModelFiles, read_model_yaml
from tsd.models.extraction import check_entry_name, extract
from tsd.settings import ArchiveSettings

MANIFEST = "MAR-INF/MANIFEST.json"
MAX_MANIFEST_BYTES = 262_144
RUNTIMES, CPP_RUNTIME = ("python", "python3"), "LSP"
# TorchServe's words for a manifest that it cannot read.
UNREADABLE = "Failed to parse signature.json."
STAGING_PREFIX = ".unpacking-"


def unpack(source: Path, folder: Path, limits: ArchiveSettings) -> ModelFiles:
    """Put the model's files into a new directory in `folder`.

    Raises InvalidArchive, ArchiveTooLarge, and OSError when the disk is full or not readable."""
    if source.is_dir():
        # TorchServe uses a directory in place; so do we, and never delete it.
        return read_files(source, _innermost(source))
    if not source.is_file():
        # A device has no end, and a pipe may never begin.
        raise InvalidArchive("The archive is neither a file nor a directory.")
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    staging = Path(tempfile.mkdtemp(prefix=STAGING_PREFIX, dir=folder))
    try:
        if source.suffix in BARE_SUFFIXES:
            _place_bare_file(source, staging)
        else:
            extract(source, staging, limits)
        files = read_files(source, staging)
        model_dir = staging.with_name(staging.name.removeprefix(STAGING_PREFIX))
        staging.rename(model_dir)
    except BaseException:
        shutil.rmtree(staging, ignore_errors=True)
        raise
    return replace(files, model_dir=model_dir)


def files_of(
    source: Path, earlier: Path | None, folder: Path, limits: ArchiveSettings
) -> ModelFiles:
    """The files that an earlier run unpacked, where they are whole; else unpacked anew."""
    if earlier is not None and earlier.is_dir():
        return read_files(source, earlier)
    return unpack(source, folder, limits)


def discard(model_dir: Path, folder: Path) -> None:
    """Delete a directory that `unpack` made; any other one is left alone."""
    if model_dir.parent == folder:
        shutil.rmtree(model_dir, ignore_errors=True)


def discard_others(folder: Path, kept: Iterable[Path]) -> list[Path]:
    """Delete what an interrupted run left in `folder`; what was deleted."""
    known = set(kept)
    found = list(folder.iterdir()) if folder.is_dir() else []
    left_over = [path for path in found if path not in known]
    for path in left_over:
        shutil.rmtree(path, ignore_errors=True)
    return left_over


def read_files(source: Path, folder: Path) -> ModelFiles:
    """The manifest and the model configuration of an unpacked model, checked."""
    manifest = _read_manifest(folder)
    config_file = manifest["model"].get("configFile")
    model_yaml = read_model_yaml(file_inside(folder, str(config_file))) if config_file else {}
    return ModelFiles(source, folder, manifest, model_yaml)


def file_inside(folder: Path, name: str) -> Path:
    """A file that the manifest names; InvalidArchive where the model has none of that name."""
    path = folder / check_entry_name(name)
    if not path.is_file():
        raise InvalidArchive(f"The manifest names a file that is not there: {name}")
    return path


def default_name(source: Path) -> str:
    """What a model is called that says no name of its own: as TorchServe names it at its start."""
    stem = source.name if source.is_dir() else Path(source.name.removesuffix(".gz")).stem
    return re.sub(r"\W", "_", stem)


def _innermost(folder: Path) -> Path:
    """The directory itself, or the one that is all it holds."""
    inside = list(folder.iterdir())
    is_wrapped = len(inside) == 1 and inside[0].is_dir() and not (folder / MANIFEST).exists()
    return inside[0] if is_wrapped else folder


def _read_manifest(folder: Path) -> dict[str, Any]:
    path = folder / MANIFEST
    try:
        if path.exists() and not path.is_file():
            raise InvalidArchive(UNREADABLE, why=f"{MANIFEST} is no file")
        if path.stat().st_size > MAX_MANIFEST_BYTES:
            raise InvalidArchive(f"The manifest is larger than {MAX_MANIFEST_BYTES} bytes.")
        manifest = json.loads(path.read_bytes())
    except FileNotFoundError:
        # So are those that are made for SageMaker. The handler is then the configured one, and
        # the name the caller's, or at the start the file's.
        return {"runtime": "python", "model": {"modelVersion": "1.0"}}
    except (ValueError, RecursionError) as error:
        raise InvalidArchive(UNREADABLE, why=f"the manifest is no JSON: {error}") from error
    return _checked(manifest)


def _checked(manifest: Any) -> dict[str, Any]:
    """The manifest of any archiver: what is not known is let be, what is missing has a default."""
    if not isinstance(manifest, dict):
        raise InvalidArchive(UNREADABLE, why="the manifest is no JSON object")
    if not isinstance(manifest.setdefault("model", {}), dict):
        raise InvalidArchive("Missing Model entry in manifest file.")
    runtime = manifest.get("runtime", "python")
    check_runtime(runtime)
    if runtime not in RUNTIMES:
        raise InvalidArchive("Runtime is not defined or invalid.")
    return dict(manifest)


def check_runtime(runtime: object) -> None:
    """Raise for the one of TorchServe's runtimes that is no Python."""
    if runtime == CPP_RUNTIME:
        raise InvalidArchive(
            "The runtime LSP, TorchServe's C++ backend, is not available.",
            fix="use the runtime python",
        )


def _place_bare_file(source: Path, folder: Path) -> None:
    # A copy: whoever writes to the source later must not change what is registered.
    shutil.copyfile(source, folder / source.name)
    manifest = {
        "runtime": "python",
        "model": {
            "modelName": re.sub(r"[^A-Za-z0-9._-]", "_", source.stem),
            "modelVersion": "1.0",
            "serializedFile": source.name,
        },
    }
    (folder / "MAR-INF").mkdir()
    (folder / MANIFEST).write_text(json.dumps(manifest))
