"""Model archives as tsctl pack makes them."""

from __future__ import annotations

import json
import tarfile
import time
import zipfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tsctl.arguments import parse
from tsctl.commands.pack import PackRequest, expand, manifest_of, pack, request_from, unmatched
from tsctl.failure import Failure, Status


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in ("handler.py", "model.py", "weights.pt", "requirements.txt", "config.yaml"):
        (tmp_path / name).write_text(f"this is {name}")
    (tmp_path / "extra" / "deep").mkdir(parents=True)
    (tmp_path / "extra" / "labels.json").write_text("[]")
    (tmp_path / "extra" / "deep" / "words.txt").write_text("words")
    return tmp_path


@pytest.fixture
def request_(folder: Path) -> PackRequest:
    return PackRequest(
        model_name="digits",
        handler=str(folder / "handler.py"),
        serialized_file=folder / "weights.pt",
        export_path=folder,
    )


def names(archive: Path) -> list[str]:
    with zipfile.ZipFile(archive) as opened:
        assert opened.testzip() is None
        return opened.namelist()


def manifest(archive: Path) -> Any:
    with zipfile.ZipFile(archive) as opened:
        return json.loads(opened.read("MAR-INF/MANIFEST.json"))


def test_all_files_lie_at_the_root_in_a_fixed_order(folder: Path, request_: PackRequest) -> None:
    archive = pack(
        replace(
            request_,
            model_file=folder / "model.py",
            config_file=folder / "config.yaml",
            requirements_file=folder / "requirements.txt",
            extra_files=(folder / "extra",),
        )
    )
    assert archive == folder / "digits.mar"
    assert names(archive) == [
        "config.yaml",
        "deep/words.txt",
        "handler.py",
        "labels.json",
        "model.py",
        "requirements.txt",
        "weights.pt",
        "MAR-INF/MANIFEST.json",
    ]
    assert manifest(archive)["model"] == {
        "modelName": "digits",
        "serializedFile": "weights.pt",
        "handler": "handler.py",
        "modelFile": "model.py",
        "modelVersion": "1.0",
        "requirementsFile": "requirements.txt",
        "configFile": "config.yaml",
    }


def test_the_manifest_says_when_and_by_what_it_was_made(request_: PackRequest) -> None:
    assert manifest_of(replace(request_, serialized_file=None), 0.0) == {
        "createdOn": time.strftime("%d/%m/%Y %H:%M:%S", time.localtime(0)),
        "runtime": "python",
        "model": {"modelName": "digits", "handler": "handler.py", "modelVersion": "1.0"},
        "archiverVersion": "0.12.0",
    }


@pytest.mark.parametrize("typed", ["handler.py", "handler", "handler.py:run", "handler:run"])
def test_the_handler_is_named_as_it_was_typed(
    folder: Path, request_: PackRequest, typed: str
) -> None:
    archive = pack(replace(request_, handler=f"{folder}/{typed}"))
    assert manifest(archive)["model"]["handler"] == typed
    assert "handler.py" in names(archive)


def test_a_built_in_handler_is_named_and_not_copied(request_: PackRequest) -> None:
    archive = pack(replace(request_, handler="image_classifier"))
    assert manifest(archive)["model"]["handler"] == "image_classifier"
    assert names(archive) == ["weights.pt", "MAR-INF/MANIFEST.json"]


def test_an_archive_may_be_a_folder(folder: Path, request_: PackRequest) -> None:
    request = replace(request_, archive_format="no-archive", extra_files=(folder / "extra",))
    made = pack(request)
    assert made == folder / "digits"
    files = sorted(p.relative_to(made).as_posix() for p in made.rglob("*") if p.is_file())
    assert files == [
        "MAR-INF/MANIFEST.json",
        "deep/words.txt",
        "handler.py",
        "labels.json",
        "weights.pt",
    ]
    assert pack(replace(request, force=True)) == made


def test_an_archive_may_be_a_tar_with_one_folder_at_its_top(request_: PackRequest) -> None:
    made = pack(replace(request_, archive_format="tgz"))
    assert made.name == "digits.tar.gz"
    with tarfile.open(made, "r:gz") as opened:
        assert opened.getnames() == [
            "digits/handler.py",
            "digits/weights.pt",
            "digits/MAR-INF/MANIFEST.json",
        ]


def test_an_archive_may_be_stored_without_being_packed(request_: PackRequest) -> None:
    with zipfile.ZipFile(pack(replace(request_, archive_format="zip-store"))) as opened:
        assert {entry.compress_type for entry in opened.infolist()} == {zipfile.ZIP_STORED}


def test_what_tools_leave_behind_stays_out(folder: Path, request_: PackRequest) -> None:
    for name in (".git", "__pycache__", "__MACOSX", "deep/.cache"):
        (folder / "extra" / name).mkdir(parents=True)
        (folder / "extra" / name / "left").touch()
    (folder / "extra" / ".dotfile").touch()
    archive = pack(replace(request_, extra_files=(folder / "extra",)))
    assert [name for name in names(archive) if "/" not in name] == [
        ".dotfile",
        "handler.py",
        "labels.json",
        "weights.pt",
    ]
    assert not [name for name in names(archive) if name.endswith("left")]


def test_a_handler_of_the_cpp_runtime_is_a_library(folder: Path, request_: PackRequest) -> None:
    (folder / "mine.so").touch()
    own = pack(replace(request_, runtime="LSP", handler=f"{folder}/mine:run"))
    assert "mine.so" in names(own)
    assert manifest(own)["runtime"] == "LSP"
    built_in = pack(replace(request_, runtime="LSP", handler="TorchScriptHandler", force=True))
    assert names(built_in) == ["weights.pt", "MAR-INF/MANIFEST.json"]


def test_the_folder_of_the_archive_is_made(folder: Path, request_: PackRequest) -> None:
    assert pack(replace(request_, export_path=folder / "new" / "store")).exists()


def test_an_archive_is_replaced_only_by_force(request_: PackRequest) -> None:
    first = pack(request_)
    with pytest.raises(Failure, match="exists") as caught:
        pack(request_)
    assert "--force" in caught.value.fix
    assert pack(replace(request_, version="2.0", force=True)) == first
    assert manifest(first)["model"]["modelVersion"] == "2.0"


@pytest.mark.parametrize("name", ["", ".hidden", "a/b", "a b", "a" * 129, "a\n"])
def test_a_model_has_a_proper_name(request_: PackRequest, name: str) -> None:
    with pytest.raises(Failure, match="cannot be the name") as caught:
        pack(replace(request_, model_name=name))
    assert caught.value.status == Status.USAGE


def test_a_missing_file_is_named_and_nothing_is_left(folder: Path, request_: PackRequest) -> None:
    with pytest.raises(Failure, match=r"no file .*gone\.pt") as caught:
        pack(replace(request_, serialized_file=folder / "gone.pt"))
    assert caught.value.status == Status.FAILED
    assert not list(folder.glob("*digits*"))


def test_two_files_of_one_name_are_refused(folder: Path, request_: PackRequest) -> None:
    (folder / "extra" / "handler.py").write_text("another one")
    with pytest.raises(Failure, match=r"as handler\.py"):
        pack(replace(request_, extra_files=(folder / "extra",)))


def test_the_same_file_may_be_named_twice(folder: Path, request_: PackRequest) -> None:
    archive = pack(replace(request_, extra_files=(folder / "weights.pt",)))
    assert names(archive).count("weights.pt") == 1


def test_no_file_takes_the_manifests_place(folder: Path, request_: PackRequest) -> None:
    (folder / "extra" / "MAR-INF").mkdir()
    (folder / "extra" / "MAR-INF" / "MANIFEST.json").touch()
    with pytest.raises(Failure, match="cannot go into the archive"):
        pack(replace(request_, extra_files=(folder / "extra",)))


def test_extra_files_may_be_patterns(folder: Path) -> None:
    words = f"{folder}/extra, {folder}/m*.py,{folder}/none*,{folder}/[cw]?*.yaml,gone.txt"
    assert [path.name for path in expand(words)] == ["extra", "model.py", "config.yaml", "gone.txt"]
    assert unmatched(words) == [f"{folder}/none*"]


def test_the_options_are_those_of_torch_model_archiver(folder: Path) -> None:
    words = (
        "pack --model-name m -v 3 --handler h.py --serialized-file w.pt --model-file m.py"
        " --extra-files a,b -c c.yaml -r r.txt --export-path out --archive-format no-archive -f"
        " --runtime python3"
    )
    assert request_from(parse(words.split())) == PackRequest(
        model_name="m",
        handler="h.py",
        version="3",
        serialized_file=Path("w.pt"),
        model_file=Path("m.py"),
        extra_files=(Path("a"), Path("b")),
        runtime="python3",
        config_file=Path("c.yaml"),
        requirements_file=Path("r.txt"),
        export_path=Path("out"),
        archive_format="no-archive",
        force=True,
    )
