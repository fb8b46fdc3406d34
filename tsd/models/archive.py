"""From what an operator names to an unpacked, checked model directory.

Takes `.mar` archives, directories that look like an unpacked one, and bare model files
(TorchScript `.pt`, `.pt2`). Everything here may block: callers run it on an executor's thread.
Its bounds are the settings `archives.*`; names are checked before a file is
opened, and a directory appears whole, by rename, or not at all."""

from __future__ import annotations

import json
import re
import shutil
import stat
import struct
import tempfile
import zipfile
import zlib
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path, PurePosixPath
from typing import Any

from tsd.errors import ArchiveTooLarge, BadRequest, InvalidArchive, ModelNotFound
from tsd.models.description import ModelFiles, read_model_yaml
from tsd.settings import ArchiveSettings

MANIFEST = "MAR-INF/MANIFEST.json"
MAX_MANIFEST_BYTES = 262_144
MAX_NAME_BYTES = 255
CHUNK_BYTES = 1 << 20
BARE_SUFFIXES = (".pt", ".pt2")
STAGING_PREFIX = ".unpacking-"
COMPRESSIONS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)

# What zipfile raises for bytes that are no good archive.
DAMAGE = (
    *(zipfile.BadZipFile, zlib.error, struct.error, EOFError),
    *(LookupError, RuntimeError, ValueError, OverflowError),
)


def resolve(url: str, model_store: Path | None, *, is_local_caller: bool) -> Path:
    """The file or directory that `url` names.

    A name is looked up in the model store. An absolute path is taken from a local caller only
    (the control socket, the command line): whoever comes by TCP names files of the store."""
    if not url:
        raise ModelNotFound("empty url")
    if ".." in url:
        raise ModelNotFound(f"Relative path is not allowed in url: {url}")
    if re.match(r"(https?|file)://", url, re.IGNORECASE):
        raise ModelNotFound(f"Given URL {url} does not match any allowed URL(s)")
    if "\0" in url:
        raise BadRequest("The url holds a NUL byte.")
    try:
        return _existing(url, model_store, is_local_caller=is_local_caller)
    except OSError as error:
        raise _not_found(url, model_store) from error


def _existing(url: str, model_store: Path | None, *, is_local_caller: bool) -> Path:
    path = Path(url)
    if not (path.is_absolute() and is_local_caller):
        if model_store is None or path.is_absolute() or len(path.parts) != 1:
            raise _not_found(url, model_store)
        path = model_store / path
    if not path.exists():
        raise _not_found(url, model_store)
    return path


def store_archives(model_store: Path) -> list[Path]:
    """Every archive, bare model and model directory of the store: what `--models all` means."""
    return sorted(
        path
        for path in model_store.iterdir()
        if path.suffix in (".mar", *BARE_SUFFIXES)
        or (path.is_dir() and not path.name.startswith(".") and (path / MANIFEST).is_file())
    )


def unpack(source: Path, folder: Path, limits: ArchiveSettings) -> ModelFiles:
    """Put the model's files into a new directory in `folder`.

    Raises InvalidArchive, ArchiveTooLarge, and OSError when the disk is full or not readable."""
    if source.is_dir():
        # TorchServe uses a directory in place; so do we, and never delete it.
        return read_files(source, source)
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    staging = Path(tempfile.mkdtemp(prefix=STAGING_PREFIX, dir=folder))
    try:
        if source.suffix in BARE_SUFFIXES:
            _place_bare_file(source, staging)
        else:
            _extract(source, staging, limits)
        files = read_files(source, staging)
        model_dir = staging.with_name(staging.name.removeprefix(STAGING_PREFIX))
        staging.rename(model_dir)
    except BaseException:
        shutil.rmtree(staging, ignore_errors=True)
        raise
    return replace(files, model_dir=model_dir)


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
    model_yaml = read_model_yaml(_inside(folder, str(config_file))) if config_file else {}
    return ModelFiles(source, folder, manifest, model_yaml)


def _not_found(url: str, model_store: Path | None) -> ModelNotFound:
    store = f"the model store {model_store}" if model_store else "no model store is configured"
    return ModelNotFound(
        f"Model not found at: {url}",
        why=f"no such file ({store})" if model_store else f"no such file, and {store}",
        fix="give an existing archive, or put it into the model store",
    )


def _read_manifest(folder: Path) -> dict[str, Any]:
    path = folder / MANIFEST
    try:
        if path.stat().st_size > MAX_MANIFEST_BYTES:
            raise InvalidArchive(f"The manifest is larger than {MAX_MANIFEST_BYTES} bytes.")
        manifest = json.loads(path.read_bytes())
    except FileNotFoundError as error:
        raise InvalidArchive(
            f"The archive has no {MANIFEST}.", fix="pack the model with `tsctl pack`"
        ) from error
    except (ValueError, RecursionError) as error:
        raise InvalidArchive("The manifest is not valid JSON.", why=str(error)) from error
    model = manifest.get("model") if isinstance(manifest, dict) else None
    if not isinstance(model, dict):
        raise InvalidArchive("The manifest has no model section.")
    if not isinstance(model.get("modelName"), str):
        raise InvalidArchive("Model name is not defined.")
    return dict(manifest)


def _inside(folder: Path, name: str) -> Path:
    path = folder / check_entry_name(name)
    if not path.is_file():
        raise InvalidArchive(f"The manifest names a file that is not there: {name}")
    return path


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


def _extract(source: Path, folder: Path, limits: ArchiveSettings) -> None:
    try:
        with zipfile.ZipFile(source) as archive:
            entries = archive.infolist()
            check_entries(entries, source.stat().st_size, limits)
            for entry in entries:
                _extract_entry(archive, entry, folder)
    except DAMAGE as error:
        raise InvalidArchive("The archive is damaged.", why=str(error)) from error
    except OSError as error:
        if error.errno is None or isinstance(error, NotADirectoryError):
            raise InvalidArchive("The archive is damaged.", why=str(error)) from error
        raise


def _extract_entry(archive: zipfile.ZipFile, entry: zipfile.ZipInfo, folder: Path) -> None:
    target = folder / entry.filename
    if entry.is_dir():
        target.mkdir(mode=0o700, parents=True, exist_ok=True)
        return
    target.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    # zipfile reads no more than the size that the entry states, which has been checked.
    with archive.open(entry) as reading, target.open("xb") as writing:
        shutil.copyfileobj(reading, writing, CHUNK_BYTES)


def check_entries(
    entries: Iterable[zipfile.ZipInfo], archive_bytes: int, limits: ArchiveSettings
) -> None:
    """Raise unless every name is safe and all sizes together are within the limits."""
    names: set[str] = set()
    unpacked = packed = 0
    for entry in entries:
        _check_entry(entry, names)
        unpacked += entry.file_size
        packed += entry.compress_size
    if len(names) > limits.max_files:
        raise ArchiveTooLarge(f"The archive holds more than {limits.max_files} files.")
    if unpacked > limits.max_bytes:
        raise ArchiveTooLarge(f"The archive would unpack to more than {limits.max_bytes} bytes.")
    if packed > archive_bytes:
        raise InvalidArchive("The archive is damaged.", why="its entries overlap")
    if unpacked > limits.max_ratio * max(archive_bytes, CHUNK_BYTES):
        raise ArchiveTooLarge(
            f"The archive would unpack to more than {limits.max_ratio} times its size."
        )


def _check_entry(entry: zipfile.ZipInfo, names: set[str]) -> None:
    """Raise unless the entry is a plain file or directory of a new, safe name."""
    folded = check_entry_name(entry.filename).rstrip("/").casefold()
    if folded in names:
        raise _unsafe(entry.filename, "it stands twice")
    names.add(folded)
    if stat.S_IFMT(entry.external_attr >> 16) not in (0, stat.S_IFREG, stat.S_IFDIR):
        raise _unsafe(entry.filename, "it is a link or a device")
    if entry.compress_type not in COMPRESSIONS:
        raise InvalidArchive("The archive is damaged.", why="its compression is not deflate")


def check_entry_name(name: str) -> str:
    """The name of an archive's entry, if nothing can be reached by it outside the directory."""
    path = PurePosixPath(name)
    if not name or path.is_absolute() or ".." in path.parts or not path.parts:
        raise _unsafe(name, "it points outside the archive")
    if "\\" in name or ":" in name or any(ord(letter) < 32 for letter in name):
        raise _unsafe(name, "it holds a character that is not allowed")
    if any(len(part.encode(errors="replace")) > MAX_NAME_BYTES for part in path.parts):
        raise _unsafe(name, f"a part is longer than {MAX_NAME_BYTES} bytes")
    return name


def _unsafe(name: str, why: str) -> InvalidArchive:
    return InvalidArchive(
        "The archive holds an unsafe entry.", why=f"{name[:100]!r}: {why}", fix="pack it anew"
    )
