"""What `tsctl pack` writes is what torch-model-archiver writes, and both are served."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tarfile
import textwrap
import zipfile
from pathlib import Path
from typing import Any

import pytest

from tests.support.archives import ECHO
from tests.support.daemon import RunningDaemon

FORMATS = {"default": ".mar", "zip-store": ".mar", "tgz": ".tar.gz", "no-archive": ""}
MANIFEST = "MAR-INF/MANIFEST.json"


@pytest.fixture
def sources(tmp_path: Path) -> Path:
    folder = tmp_path / "sources"
    (folder / "extra" / "deep" / "__pycache__").mkdir(parents=True)
    (folder / "extra" / ".git").mkdir()
    (folder / "handler.py").write_text(textwrap.dedent(ECHO))
    for name in (
        *("model.py", "weights.pt", "requirements.txt", "one.txt", "two.txt", "extra/.dotfile"),
        *("extra/labels.json", "extra/deep/words.txt", "extra/deep/__pycache__/left.pyc"),
        "extra/.git/config",
    ):
        (folder / name).write_text(name)
    (folder / "config.yaml").write_text("minWorkers: 1\nmaxWorkers: 1\n")
    return folder


def packed(program: list[str], sources: Path, export: Path, *options: str) -> None:
    export.mkdir()
    (sources.parent / "tmp").mkdir(exist_ok=True)
    words = [
        *("--model-name", "net", "--version", "2.1", "--export-path", str(export)),
        *("--serialized-file", "weights.pt", "--model-file", "./model.py"),
        *("--extra-files", "extra,*.txt", "-c", "config.yaml", "-r", "requirements.txt"),
    ]
    # The archiver keeps its files in a folder of that name there.
    environment = os.environ | {"TMPDIR": str(sources.parent / "tmp")}
    subprocess.run([*program, *words, *options], cwd=sources, env=environment, check=True)


def by_the_archiver(sources: Path, export: Path, *options: str) -> None:
    packed([sys.executable, "-m", "model_archiver.model_packaging"], sources, export, *options)


def by_tsctl(sources: Path, export: Path, *options: str) -> None:
    packed([sys.executable, "-m", "tsctl", "pack"], sources, export, *options)


def content_of(archive: Path) -> dict[str, bytes]:
    """Every file of an archive of any format, by its name."""
    if archive.is_dir():
        files = [path for path in archive.rglob("*") if path.is_file()]
        return {path.relative_to(archive).as_posix(): path.read_bytes() for path in files}
    if archive.suffix == ".mar":
        with zipfile.ZipFile(archive) as opened:
            return {name: opened.read(name) for name in opened.namelist()}
    with tarfile.open(archive, "r:gz") as tar:
        read = {entry.name: tar.extractfile(entry) for entry in tar}
        return {name: content.read() for name, content in read.items() if content}


def without_time(manifest: bytes) -> bytes:
    first = next(line for line in manifest.splitlines(keepends=True) if b"createdOn" in line)
    return manifest.replace(first, b"")


@pytest.mark.parametrize("format_", FORMATS)
@pytest.mark.parametrize("handler", ["handler.py", "handler", "handler:handle", "base_handler"])
def test_the_same_options_make_the_same_archive(
    sources: Path, tmp_path: Path, format_: str, handler: str
) -> None:
    options = ("--handler", handler, "--archive-format", format_)
    by_the_archiver(sources, tmp_path / "theirs", *options)
    by_tsctl(sources, tmp_path / "ours", *options)
    name = "net" + FORMATS[format_]
    theirs, ours = content_of(tmp_path / "theirs" / name), content_of(tmp_path / "ours" / name)
    assert sorted(ours) == sorted(theirs)
    manifest = f"net/{MANIFEST}" if format_ == "tgz" else MANIFEST
    if format_ != "no-archive":
        assert list(ours)[-1] == list(theirs)[-1] == manifest
    assert without_time(ours.pop(manifest)) == without_time(theirs.pop(manifest))
    assert ours == theirs


@pytest.mark.parametrize("format_", FORMATS)
def test_what_the_archiver_packs_is_served(
    shared_daemon: RunningDaemon, sources: Path, tmp_path: Path, format_: str
) -> None:
    by_the_archiver(
        sources, tmp_path / "store", "--handler", "handler.py", "--archive-format", format_
    )
    model = f"net-{format_}"
    shared_daemon.register(tmp_path / "store" / ("net" + FORMATS[format_]), model_name=model)
    described: Any = shared_daemon.call("GET", f"/models/{model}").json()
    assert (described[0]["modelVersion"], len(described[0]["workers"])) == ("2.1", 1)
    assert shared_daemon.call("POST", f"/predictions/{model}", b"hello").body == b"hello"
    shared_daemon.call("DELETE", f"/models/{model}")
    # A folder is served where it lies, and stays.
    assert (tmp_path / "store" / ("net" + FORMATS[format_])).exists()


def test_a_pattern_that_matches_nothing_is_named(sources: Path, tmp_path: Path) -> None:
    words = [
        *("pack", "--model-name", "net", "--handler", "base_handler"),
        *("--export-path", str(tmp_path), "--extra-files", "none*"),
    ]
    command = [sys.executable, "-m", "tsctl", *words]
    done = subprocess.run(command, cwd=sources, capture_output=True, text=True, check=True)
    assert done.stderr == "tsctl: nothing matches none*\n"
    with zipfile.ZipFile(tmp_path / "net.mar") as opened:
        assert json.loads(opened.read(MANIFEST))["model"]["modelName"] == "net"
