"""tsctl pack: a model archive out of a handler and the files it needs.

All local. What stands where in an archive is TorchServe's: every file at the root, and
MAR-INF/MANIFEST.json to say which is which."""

from __future__ import annotations

import json
import os
import re
import shutil
import time
import zipfile
from argparse import Namespace
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from tsctl.client import Client
from tsctl.console import Console
from tsctl.failure import Failure, Json, Status
from tsctl.version import installed_version

MODEL_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")
MANIFEST = "MAR-INF/MANIFEST.json"

# Handlers that every server brings along; they are named in the manifest and not copied.
BUILT_IN_HANDLERS = {
    *("base_handler", "text_classifier", "image_classifier", "object_detector"),
    *("image_segmenter", "dali_image_classifier", "vllm_handler", "trt_llm_handler"),
}


@dataclass(frozen=True)
class PackRequest:
    """What goes into an archive, and where the archive goes."""

    model_name: str
    handler: str
    version: str = "1.0"
    serialized_file: Path | None = None
    model_file: Path | None = None
    extra_files: tuple[Path, ...] = ()
    config_file: Path | None = None
    requirements_file: Path | None = None
    export_path: Path = Path()
    archive_format: str = "default"
    force: bool = False


def run(arguments: Namespace, _: Client, console: Console) -> None:
    target = pack(request_from(arguments))
    if console.is_json:
        console.show_json({"archive": str(target.absolute())})
    else:
        console.confirm(f"packed {arguments.model_name} {arguments.version} into {target}")


def request_from(arguments: Namespace) -> PackRequest:
    return PackRequest(
        model_name=arguments.model_name,
        handler=arguments.handler,
        version=arguments.version,
        serialized_file=arguments.serialized_file,
        model_file=arguments.model_file,
        extra_files=tuple(expand(arguments.extra_files or "")),
        config_file=arguments.config_file,
        requirements_file=arguments.requirements_file,
        export_path=arguments.export_path,
        archive_format=arguments.archive_format,
        force=arguments.force,
    )


def expand(words: str) -> Iterator[Path]:
    """The paths in a list with commas; a pattern stands for all that it matches."""
    for word in filter(None, map(str.strip, words.split(","))):
        path = Path(word)
        found = sorted(path.parent.glob(path.name)) if "*" in path.name else []
        yield from found or [path]


def pack(request: PackRequest) -> Path:
    """Make the archive; returns its path. A reader never sees half of one."""
    if not MODEL_NAME.fullmatch(request.model_name):
        raise _bad_name(request.model_name)
    files = contents(request)
    manifest = json.dumps(manifest_of(request, time.time()), indent=2).encode()
    is_folder = request.archive_format == "no-archive"
    target = request.export_path / (request.model_name + ("" if is_folder else ".mar"))
    if target.exists() and not request.force:
        raise _exists(target)
    partial = target.with_name(f".{target.name}.{os.getpid()}")
    try:
        (write_folder if is_folder else write_archive)(partial, files, manifest)
        _remove(target)
        partial.replace(target)
    finally:
        _remove(partial)
    return target


def manifest_of(request: PackRequest, now_s: float) -> Json:
    """The manifest: files go by their name alone, the handler as it was typed."""
    model = {
        "modelName": request.model_name,
        "serializedFile": _name(request.serialized_file),
        "handler": request.handler.rpartition("/")[2],
        "modelFile": _name(request.model_file),
        "modelVersion": request.version,
        "requirementsFile": _name(request.requirements_file),
        "configFile": _name(request.config_file),
    }
    return {
        "createdOn": time.strftime("%d/%m/%Y %H:%M:%S", time.gmtime(now_s)),
        "runtime": "python",
        "model": {key: value for key, value in model.items() if value},
        "archiverVersion": installed_version(),
    }


def contents(request: PackRequest) -> dict[str, Path]:
    """Every file by its name in the archive, in the order of those names."""
    files: dict[str, Path] = {}
    for name, path in _named_files(request):
        if not path.is_file():
            raise _missing(path)
        if name == MANIFEST or not files.get(name, path).samefile(path):
            raise _ambiguous(name, path)
        files[name] = path
    return dict(sorted(files.items()))


def _named_files(request: PackRequest) -> Iterator[tuple[str, Path]]:
    single = (
        *(handler_file(request.handler), request.serialized_file, request.model_file),
        *(request.config_file, request.requirements_file),
    )
    for path in (*filter(None, single), *request.extra_files):
        if path.is_dir():
            inside = (found for found in path.rglob("*") if not found.is_dir())
            yield from ((found.relative_to(path).as_posix(), found) for found in inside)
        else:
            yield path.name, path


def handler_file(handler: str) -> Path | None:
    """The file of `h.py`, `h` or `h.py:function`; none for a handler that is built in."""
    file = handler.partition(":")[0]
    if file in BUILT_IN_HANDLERS:
        return None
    return Path(file if file.endswith(".py") else file + ".py")


def write_archive(target: Path, files: Mapping[str, Path], manifest: bytes) -> None:
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED, strict_timestamps=False) as archive:
        archive.writestr(MANIFEST, manifest)
        for name, path in files.items():
            archive.write(path, name)


def write_folder(target: Path, files: Mapping[str, Path], manifest: bytes) -> None:
    _write_into(target / MANIFEST).write_bytes(manifest)
    for name, path in files.items():
        shutil.copy2(path, _write_into(target / name))


def _write_into(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    return path


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def _name(path: Path | None) -> str | None:
    return path.name if path else None


def _bad_name(name: str) -> Failure:
    return Failure(
        Status.USAGE,
        f"{name!r} cannot be the name of a model",
        "names consist of letters, digits, dots, dashes and underscores, 128 at most",
        "choose another --model-name; it starts with a letter or a digit",
    )


def _exists(target: Path) -> Failure:
    return Failure(
        Status.FAILED,
        f"{target} exists",
        "an archive is not replaced by accident",
        "replace it with --force, or choose another --export-path",
    )


def _missing(path: Path) -> Failure:
    return Failure(
        Status.FAILED,
        f"there is no file {path}",
        "it is to go into the archive, and it is not here or not a plain file",
        "check the path; it is taken from the present folder",
    )


def _ambiguous(name: str, path: Path) -> Failure:
    return Failure(
        Status.FAILED,
        f"{path} cannot go into the archive as {name}",
        "another file has that name, and all lie side by side at the archive's root",
        "rename one of them",
    )
