"""A tar is unpacked within the same bounds as a zip, and without its top folder."""

from __future__ import annotations

import contextlib
import gzip
import io
import os
import tarfile
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tsd.errors import ArchiveTooLarge, InvalidArchive
from tsd.models.extraction import extract
from tsd.settings import ArchiveSettings

LIMITS = ArchiveSettings(max_files=20, max_bytes=1 << 20, max_ratio=200)


def entry(name: str, size: int = 0, kind: bytes = tarfile.REGTYPE) -> tarfile.TarInfo:
    made = tarfile.TarInfo(name)
    made.size, made.type = size, kind
    return made


def make_tar(path: Path, entries: dict[str, bytes | None]) -> Path:
    """None: a directory."""
    with tarfile.open(path, "w:gz") as written:
        for name, content in entries.items():
            if content is None:
                written.addfile(entry(name, kind=tarfile.DIRTYPE))
            else:
                written.addfile(entry(name, len(content)), io.BytesIO(content))
    return path


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "out"
    made.mkdir()
    return made


def content_of(folder: Path) -> dict[str, bytes]:
    files = (path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}


@pytest.mark.parametrize("top", ["m", "whatever", "."])
def test_the_first_folder_of_every_name_is_left_out(tmp_path: Path, folder: Path, top: str) -> None:
    entries = {f"{top}/": None, f"{top}/h.py": b"code", f"{top}/sub/": None, f"{top}/sub/x": b"x"}
    extract(make_tar(tmp_path / "m.tar.gz", entries), folder, LIMITS)
    assert content_of(folder) == {"h.py": b"code", "sub/x": b"x"}


def test_names_without_a_folder_stay_as_they_are(tmp_path: Path, folder: Path) -> None:
    extract(make_tar(tmp_path / "m.tgz", {"h.py": b"code", "sub/x": b"x"}), folder, LIMITS)
    assert content_of(folder) == {"h.py": b"code", "x": b"x"}


@pytest.mark.parametrize(
    "name",
    ["m/../x", "/etc/x", "m//../../x", "..", "m/a\\b", "m/C:x", "m/a\x1bb", "m/" + "x" * 256],
)
def test_f21_an_entry_of_a_tar_with_an_unsafe_name_is_refused(
    tmp_path: Path, folder: Path, name: str
) -> None:
    with pytest.raises(InvalidArchive, match="unsafe"):
        extract(make_tar(tmp_path / "m.tar.gz", {name: b"x"}), folder, LIMITS)
    assert not content_of(tmp_path / "out")


def test_f21_a_name_that_stands_twice_is_refused(tmp_path: Path, folder: Path) -> None:
    with pytest.raises(InvalidArchive, match="unsafe"):
        extract(make_tar(tmp_path / "m.tar.gz", {"a/x": b"1", "b/X": b"2"}), folder, LIMITS)


@pytest.mark.parametrize(
    "kind",
    [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.BLKTYPE, tarfile.FIFOTYPE],
)
def test_f21_a_link_or_a_device_in_a_tar_is_refused(
    tmp_path: Path, folder: Path, kind: bytes
) -> None:
    with tarfile.open(tmp_path / "m.tar.gz", "w:gz") as written:
        evil = entry("m/evil", kind=kind)
        evil.linkname = "/etc/passwd"
        written.addfile(evil)
    with pytest.raises(InvalidArchive, match="unsafe"):
        extract(tmp_path / "m.tar.gz", folder, LIMITS)
    assert not list(folder.iterdir())


def test_f22_a_tar_may_not_hold_too_much(tmp_path: Path, folder: Path) -> None:
    too_much = make_tar(tmp_path / "much.tar.gz", {"m/x": os.urandom(1 << 20), "m/y": b"1"})
    too_many = make_tar(tmp_path / "many.tar.gz", {f"m/{n}": b"" for n in range(21)})
    wide = ArchiveSettings(max_bytes=1 << 40, max_ratio=2)
    too_dense = make_tar(tmp_path / "dense.tar.gz", {"m/zeros": bytes(3 << 20)})
    for source, limits in ((too_much, LIMITS), (too_many, LIMITS), (too_dense, wide)):
        with pytest.raises(ArchiveTooLarge):
            extract(source, folder, limits)
    written = sum(len(content) for content in content_of(folder).values())
    assert written <= LIMITS.max_bytes


@pytest.mark.parametrize("kind", [tarfile.XHDTYPE, tarfile.GNUTYPE_LONGNAME])
def test_f22_a_header_may_not_hold_too_much(tmp_path: Path, folder: Path, kind: bytes) -> None:
    with tarfile.open(tmp_path / "m.tar.gz", "w:gz") as written:
        written.addfile(entry("m/x", 64 << 20, kind), io.BytesIO(bytes(64 << 20)))
    with pytest.raises(ArchiveTooLarge):
        extract(tmp_path / "m.tar.gz", folder, LIMITS)


def test_f22_nor_may_what_follows_the_last_entry(tmp_path: Path, folder: Path) -> None:
    whole = gzip.decompress(make_tar(tmp_path / "m.tar.gz", {"m/x": b"x"}).read_bytes())
    (tmp_path / "m.tar.gz").write_bytes(gzip.compress(whole + bytes(64 << 20)))
    with pytest.raises(ArchiveTooLarge):
        extract(tmp_path / "m.tar.gz", folder, LIMITS)


def test_a_tar_padded_to_large_records_is_fine(tmp_path: Path, folder: Path) -> None:
    whole = gzip.decompress(make_tar(tmp_path / "m.tar.gz", {"m/x": b"x"}).read_bytes())
    (tmp_path / "m.tar.gz").write_bytes(gzip.compress(whole.ljust(1 << 20, b"\0")))
    extract(tmp_path / "m.tar.gz", folder, LIMITS)
    assert content_of(folder) == {"x": b"x"}


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    folder = tmp_path_factory.mktemp("whole")
    entries: dict[str, bytes | None] = {"m/h.py": b"code" * 50, "m/w.pt": os.urandom(5000)}
    return make_tar(folder / "m.tar.gz", entries).read_bytes()


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=300)
@given(data=st.data())
def test_f20_a_damaged_tar_is_refused_or_whole(
    tmp_path: Path, whole: bytes, data: st.DataObject
) -> None:
    damaged = bytearray(whole[: data.draw(st.integers(0, len(whole)))])
    for _ in range(data.draw(st.integers(0, 4))):
        if damaged:
            damaged[data.draw(st.integers(0, len(damaged) - 1))] = data.draw(st.integers(0, 255))
    (tmp_path / "m.tar.gz").write_bytes(damaged)
    folder = tmp_path / os.urandom(8).hex()
    folder.mkdir()
    try:
        extract(tmp_path / "m.tar.gz", folder, LIMITS)
    except InvalidArchive:
        return
    assert sorted(content_of(folder)) == ["h.py", "w.pt"]


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=200)
@given(data=st.data())
def test_f20_so_is_one_whose_headers_lie(tmp_path: Path, whole: bytes, data: st.DataObject) -> None:
    damaged = bytearray(gzip.decompress(whole))
    for _ in range(data.draw(st.integers(1, 6))):
        damaged[data.draw(st.integers(0, 600))] = data.draw(st.integers(0, 255))
    (tmp_path / "m.tar.gz").write_bytes(gzip.compress(damaged))
    folder = tmp_path / os.urandom(8).hex()
    folder.mkdir()
    with contextlib.suppress(InvalidArchive):
        extract(tmp_path / "m.tar.gz", folder, LIMITS)
    assert sum(len(content) for content in content_of(folder).values()) <= LIMITS.max_bytes
