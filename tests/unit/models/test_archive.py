"""An archive becomes a whole, checked directory, or nothing at all."""

from __future__ import annotations

import json
import os
import stat
import zipfile
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tsd.errors import ArchiveTooLarge, InvalidArchive, TsdError
from tsd.models import archive
from tsd.settings import ArchiveSettings

LIMITS = ArchiveSettings(max_files=20, max_bytes=1 << 20, max_ratio=200)
MANIFEST = {"runtime": "python", "model": {"modelName": "m", "handler": "h.py"}}


def make_zip(path: Path, entries: dict[str, bytes], manifest: object = MANIFEST) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as written:
        if manifest is not None:
            written.writestr(archive.MANIFEST, json.dumps(manifest))
        for name, content in entries.items():
            written.writestr(name, content)
    return path


def test_a_good_archive_becomes_a_directory(tmp_path: Path) -> None:
    source = make_zip(tmp_path / "m.mar", {"h.py": b"code", "sub/data.txt": b"data"})
    files = archive.unpack(source, tmp_path / "models", LIMITS)
    assert files.model_dir.parent == tmp_path / "models"
    assert (files.model_dir / "sub" / "data.txt").read_bytes() == b"data"
    assert files.manifest == MANIFEST
    assert files.model_yaml == {}
    assert [path.name for path in (tmp_path / "models").iterdir()] == [files.model_dir.name]


def test_what_is_no_file_is_not_read(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "m.mar")
    for source in (tmp_path / "m.mar", Path("/dev/zero")):
        with pytest.raises(InvalidArchive, match="neither a file nor a directory"):
            archive.unpack(source, tmp_path / "models", LIMITS)


@pytest.mark.parametrize(
    "name",
    [
        "../x",
        "/etc/x",
        "a/../../x",
        "..",
        "a\\b",
        "C:x",
        "a\x1bb",
        "x" * 256,
        "MAR-INF/manifest.json",
    ],
)
def test_f21_an_entry_with_an_unsafe_name_is_refused(tmp_path: Path, name: str) -> None:
    source = make_zip(tmp_path / "m.mar", {name: b"x"})
    with pytest.raises(InvalidArchive):
        archive.unpack(source, tmp_path / "models", LIMITS)
    assert {path.name for path in tmp_path.iterdir()} == {"m.mar", "models"}
    assert not list((tmp_path / "models").iterdir())


@pytest.mark.parametrize("kind", [stat.S_IFLNK, stat.S_IFIFO, stat.S_IFCHR])
def test_f21_a_link_or_a_device_is_refused(tmp_path: Path, kind: int) -> None:
    source = make_zip(tmp_path / "m.mar", {})
    with zipfile.ZipFile(source, "a") as written:
        entry = zipfile.ZipInfo("evil")
        entry.external_attr = (kind | 0o777) << 16
        written.writestr(entry, "/etc/passwd")
    with pytest.raises(InvalidArchive, match="unsafe"):
        archive.unpack(source, tmp_path / "models", LIMITS)


def test_f22_bombs_are_refused_before_a_byte_is_written(tmp_path: Path) -> None:
    too_much = make_zip(tmp_path / "much.mar", {"zeros": bytes((1 << 20) + 1)})
    too_many = make_zip(tmp_path / "many.mar", {f"f{n}": b"" for n in range(20)})
    wide = ArchiveSettings(max_files=20, max_bytes=1 << 40, max_ratio=200)
    too_dense = make_zip(tmp_path / "dense.mar", {"zeros": bytes(201 << 20)})
    for source, limits in ((too_much, LIMITS), (too_many, LIMITS), (too_dense, wide)):
        with pytest.raises(ArchiveTooLarge):
            archive.unpack(source, tmp_path / "models", limits)
    assert not list((tmp_path / "models").iterdir())


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    folder = tmp_path_factory.mktemp("whole")
    return make_zip(folder / "m.mar", {"h.py": b"code" * 50, "w.pt": os.urandom(200)}).read_bytes()


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=300)
@given(data=st.data())
def test_f20_a_damaged_archive_is_refused_or_whole(
    tmp_path: Path, whole: bytes, data: st.DataObject
) -> None:
    damaged = bytearray(whole[: data.draw(st.integers(0, len(whole)))])
    for _ in range(data.draw(st.integers(0, 4))):
        if damaged:
            damaged[data.draw(st.integers(0, len(damaged) - 1))] = data.draw(st.integers(0, 255))
    (tmp_path / "m.mar").write_bytes(damaged)
    models = tmp_path / "models"
    try:
        files = archive.unpack(tmp_path / "m.mar", models, LIMITS)
    except TsdError:
        assert not models.exists() or not list(models.iterdir())
    else:
        archive.discard(files.model_dir, models)
    assert {path.name for path in tmp_path.iterdir()} <= {"m.mar", "models"}


def test_a_directory_that_points_before_the_file_is_damage(tmp_path: Path, whole: bytes) -> None:
    damaged = bytearray(whole)
    # Where the central directory begins: said one byte late, all entries are one byte early.
    damaged[-6] += 1
    (tmp_path / "m.mar").write_bytes(damaged)
    with pytest.raises(InvalidArchive):
        archive.unpack(tmp_path / "m.mar", tmp_path / "models", LIMITS)


@pytest.mark.parametrize(
    ("manifest", "words"),
    [
        ([], "Failed to parse signature.json."),
        ({"model": []}, "Missing Model entry in manifest file."),
        ({"model": None}, "Missing Model entry in manifest file."),
        ({"model": {}, "runtime": "java"}, "Runtime is not defined or invalid."),
        ({"model": {}, "runtime": "LSP"}, "The runtime LSP"),
        ({"model": {}, "runtime": None}, "Runtime is not defined or invalid."),
    ],
)
def test_a_bad_manifest_is_refused(tmp_path: Path, manifest: object, words: str) -> None:
    source = make_zip(tmp_path / "m.mar", {}, manifest)
    with pytest.raises(InvalidArchive, match=words):
        archive.unpack(source, tmp_path / "models", LIMITS)
    assert not list((tmp_path / "models").iterdir())


def test_the_manifests_of_old_archivers_are_taken_as_they_are(tmp_path: Path) -> None:
    manifest = {
        "specificationVersion": "1.0",
        "implementationVersion": "1.0",
        "modelServerVersion": "1.0",
        "model": {"modelName": "m", "handler": "h.py", "sourceVocab": "source_vocab.pt"},
    }
    # Their archives have entries for directories, too.
    entries = {"MAR-INF/": b"", "MAR-INF/MANIFEST.json": json.dumps(manifest).encode()}
    source = make_zip(tmp_path / "m.mar", {**entries, "sub/": b"", "sub/x": b"x"}, None)
    files = archive.unpack(source, tmp_path / "models", LIMITS)
    assert files.manifest == manifest
    assert (files.model_dir / "sub" / "x").read_bytes() == b"x"


def test_without_a_manifest_others_name_the_model(tmp_path: Path) -> None:
    source = make_zip(tmp_path / "my-net v2.mar", {"h.py": b""}, None)
    files = archive.unpack(source, tmp_path / "models", LIMITS)
    assert files.manifest == {"runtime": "python", "model": {"modelVersion": "1.0"}}


@pytest.mark.parametrize(
    ("name", "model"), [("a.b.mar", "a_b"), ("net.tar.gz", "net"), ("n.tgz", "n")]
)
def test_a_default_name_is_the_files_without_its_suffix(name: str, model: str) -> None:
    assert archive.default_name(Path(name)) == model


@pytest.mark.parametrize("name", ["missing.yaml", "../x.yaml", "/etc/passwd"])
def test_a_configuration_file_must_be_in_the_archive(tmp_path: Path, name: str) -> None:
    manifest = {"model": {"modelName": "m", "configFile": name}}
    source = make_zip(tmp_path / "m.mar", {}, manifest)
    with pytest.raises(InvalidArchive):
        archive.unpack(source, tmp_path / "models", LIMITS)


def test_a_bare_model_file_gets_a_manifest_of_its_own(tmp_path: Path) -> None:
    (tmp_path / "net v2.pt").write_bytes(b"weights")
    files = archive.unpack(tmp_path / "net v2.pt", tmp_path / "models", LIMITS)
    assert files.manifest["model"]["modelName"] == "net_v2"
    assert (files.model_dir / "net v2.pt").read_bytes() == b"weights"


def test_a_directory_is_used_in_place_and_never_deleted(tmp_path: Path) -> None:
    folder = tmp_path / "model"
    (folder / "MAR-INF").mkdir(parents=True)
    (folder / archive.MANIFEST).write_text(json.dumps(MANIFEST))
    files = archive.unpack(folder, tmp_path / "models", LIMITS)
    assert files.model_dir == folder
    archive.discard(folder, tmp_path / "models")
    assert folder.exists()


def test_a_directory_that_holds_only_the_models_directory_stands_for_it(tmp_path: Path) -> None:
    inside = tmp_path / "wrapped" / "model"
    (inside / "MAR-INF").mkdir(parents=True)
    (inside / archive.MANIFEST).write_text(json.dumps(MANIFEST))
    files = archive.unpack(tmp_path / "wrapped", tmp_path / "models", LIMITS)
    assert files.model_dir == inside


def test_what_an_interrupted_run_left_is_deleted(tmp_path: Path) -> None:
    for name in ("kept", ".unpacking-x", "old"):
        (tmp_path / name).mkdir()
    archive.discard_others(tmp_path, [tmp_path / "kept"])
    assert [path.name for path in tmp_path.iterdir()] == ["kept"]
    assert archive.discard_others(tmp_path / "nowhere", []) == []


def test_a_manifest_that_is_no_file_is_not_waited_for(tmp_path: Path) -> None:
    (tmp_path / "m" / "MAR-INF").mkdir(parents=True)
    os.mkfifo(tmp_path / "m" / archive.MANIFEST)
    with pytest.raises(InvalidArchive) as caught:
        archive.unpack(tmp_path / "m", tmp_path / "models", LIMITS)
    assert "is no file" in caught.value.why
