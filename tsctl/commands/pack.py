"""tsctl pack: a model archive out of a handler and the files it needs.

All local. Options, files and manifest are those of torch-model-archiver: every file at the root,
and MAR-INF/MANIFEST.json, the last one, to say which is which."""

from __future__ import annotations

import glob
import io
import json
import os
import re
import shutil
import tarfile
import time
import zipfile
from argparse import Namespace
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from tsctl.client import Client
from tsctl.console import Console
from tsctl.failure import Failure, Json, Status

MODEL_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")
MANIFEST = "MAR-INF/MANIFEST.json"

# The version of torch-model-archiver whose archives these are.
ARCHIVER_VERSION = "0.12.0"
SUFFIXES = {"default": ".mar", "zip-store": ".mar", "tgz": ".tar.gz", "no-archive": ""}
CPP_RUNTIME = "LSP"

# Handlers that every server brings along; they are named in the manifest and not copied.
BUILT_IN_HANDLERS = {
    *("base_handler", "text_classifier", "image_classifier", "object_detector"),
    *("image_segmenter", "dali_image_classifier", "vllm_handler", "trt_llm_handler"),
    # Of tsd alone.
    "tensor_handler",
}
BUILT_IN_CPP_HANDLERS = {"BaseHandler", "TorchScriptHandler"}
UNWANTED_FOLDERS = {"__MACOSX", "__pycache__"}


@dataclass(frozen=True)
class PackRequest:
    """What goes into an archive, and where the archive goes."""

    model_name: str
    handler: str
    version: str = "1.0"
    serialized_file: Path | None = None
    model_file: Path | None = None
    extra_files: tuple[Path, ...] = ()
    runtime: str = "python"
    config_file: Path | None = None
    requirements_file: Path | None = None
    export_path: Path = Path()
    archive_format: str = "default"
    force: bool = False


def run(arguments: Namespace, _: Client, console: Console) -> None:
    for word in unmatched(arguments.extra_files or ""):
        print(f"tsctl: nothing matches {word}", file=console.errors)
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
        runtime=arguments.runtime,
        config_file=arguments.config_file,
        requirements_file=arguments.requirements_file,
        export_path=arguments.export_path,
        archive_format=arguments.archive_format,
        force=arguments.force,
    )


def expand(words: str) -> Iterator[Path]:
    """The paths in a list with commas; a pattern stands for all that it matches."""
    for word in _words(words):
        yield from map(Path, _matches(word) if glob.has_magic(word) else [word])


def unmatched(words: str) -> list[str]:
    """The patterns in such a list that stand for nothing."""
    return [word for word in _words(words) if glob.has_magic(word) and not _matches(word)]


def pack(request: PackRequest) -> Path:
    """Make the archive; returns its path. A reader never sees half of one."""
    if not MODEL_NAME.fullmatch(request.model_name):
        raise _bad_name(request.model_name)
    files = contents(request)
    manifest = json.dumps(manifest_of(request, time.time()), indent=2).encode()
    target = request.export_path / (request.model_name + SUFFIXES[request.archive_format])
    if target.exists() and not request.force:
        raise _exists(target)
    request.export_path.mkdir(parents=True, exist_ok=True)
    partial = target.with_name(f".{target.name}.{os.getpid()}")
    try:
        if request.archive_format == "no-archive":
            write_folder(partial, files, manifest)
        elif request.archive_format == "tgz":
            write_tar(partial, files, manifest, request.model_name)
        else:
            is_stored = request.archive_format == "zip-store"
            write_zip(partial, files, manifest, is_stored=is_stored)
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
        "createdOn": time.strftime("%d/%m/%Y %H:%M:%S", time.localtime(now_s)),
        "runtime": request.runtime,
        "model": {key: value for key, value in model.items() if value},
        "archiverVersion": ARCHIVER_VERSION,
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
        *(
            handler_file(request.handler, request.runtime),
            request.serialized_file,
            request.model_file,
        ),
        *(request.config_file, request.requirements_file),
    )
    for path in (*filter(None, single), *request.extra_files):
        if path.is_dir():
            yield from ((file.relative_to(path).as_posix(), file) for file in _files_in(path))
        else:
            yield path.name, path


def handler_file(handler: str, runtime: str = "python") -> Path | None:
    """The file of `h.py`, `h` or `h.py:function`; none for a handler that is built in."""
    file = handler.partition(":")[0]
    is_cpp = runtime == CPP_RUNTIME
    if file in (BUILT_IN_CPP_HANDLERS if is_cpp else BUILT_IN_HANDLERS):
        return None
    suffix = ".so" if is_cpp else ".py"
    return Path(file if file.endswith(suffix) else file + suffix)


def write_zip(target: Path, files: Mapping[str, Path], manifest: bytes, *, is_stored: bool) -> None:
    method = zipfile.ZIP_STORED if is_stored else zipfile.ZIP_DEFLATED
    with zipfile.ZipFile(target, "w", method, strict_timestamps=False) as archive:
        for name, path in files.items():
            archive.write(path, name)
        archive.writestr(MANIFEST, manifest)


def write_tar(target: Path, files: Mapping[str, Path], manifest: bytes, folder: str) -> None:
    with tarfile.open(target, "w:gz", dereference=True) as archive:
        for name, path in files.items():
            archive.add(path, f"{folder}/{name}")
        entry = tarfile.TarInfo(f"{folder}/{MANIFEST}")
        entry.size = len(manifest)
        archive.addfile(entry, io.BytesIO(manifest))


def write_folder(target: Path, files: Mapping[str, Path], manifest: bytes) -> None:
    _write_into(target / MANIFEST).write_bytes(manifest)
    for name, path in files.items():
        shutil.copy2(path, _write_into(target / name))


def _words(words: str) -> Iterator[str]:
    return filter(None, map(str.strip, words.split(",")))


def _matches(pattern: str) -> list[str]:
    # Path.glob takes no absolute pattern, and `*` for hidden files, too.
    return sorted(glob.glob(pattern))  # noqa: PTH207


def _files_in(folder: Path) -> Iterator[Path]:
    """All files below, but for those in hidden folders and in what tools leave behind."""
    for place, folders, names in os.walk(folder, followlinks=True):
        folders[:] = [f for f in folders if not f.startswith(".") and f not in UNWANTED_FOLDERS]
        yield from (Path(place, name) for name in names)


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
