"""What a name means in the model store, and what it must not mean."""

from __future__ import annotations

from pathlib import Path

import pytest

from tsd.errors import BadRequest, ModelNotFound
from tsd.models.store import resolve, store_archives


@pytest.fixture
def store(tmp_path: Path) -> Path:
    (tmp_path / "m.mar").touch()
    return tmp_path


def test_names_are_looked_up_in_the_store(store: Path) -> None:
    (store / "folder").mkdir()
    assert resolve("m.mar", store, is_local_caller=False) == store / "m.mar"
    assert resolve("folder", store, is_local_caller=False) == store / "folder"
    assert resolve(str(store / "m.mar"), None, is_local_caller=True) == store / "m.mar"


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("", "empty url"),
        ("../m.mar", "Relative path is not allowed in url: ../m.mar"),
        ("%2e%2E/m.mar", "Relative path is not allowed in url: %2e%2E/m.mar"),
        ("/etc/passwd", "Model not found at: /etc/passwd"),
        ("sub/m.mar", "Model not found at: sub/m.mar"),
        ("none.mar", "Model not found at: none.mar"),
        ("x" * 300, "Model not found at: x"),
        ("ftp://h/m.mar", "Model not found at: ftp://h/m.mar"),
    ],
)
def test_from_afar_only_files_of_the_store_can_be_named(store: Path, url: str, words: str) -> None:
    with pytest.raises(ModelNotFound) as caught:
        resolve(url, store, is_local_caller=False)
    assert str(caught.value).startswith(words)


def test_a_name_holds_no_nul_byte(store: Path) -> None:
    with pytest.raises(BadRequest):
        resolve("m.mar\0", store, is_local_caller=True)


def test_all_of_the_store_is_every_archive_and_visible_folder(store: Path) -> None:
    for name in ("n.model", "n.tar.gz", "n.tgz", "n.pt", "n.pt2", "n.txt", ".hidden.mar"):
        (store / name).touch()
    (store / "folder").mkdir()
    (store / ".hidden").mkdir()
    assert [path.name for path in store_archives(store)] == [
        *("folder", "m.mar", "n.model", "n.pt", "n.pt2", "n.tar.gz", "n.tgz"),
    ]
