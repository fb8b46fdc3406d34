"""A file is replaced whole, and the generation before stays."""

from __future__ import annotations

from pathlib import Path

import pytest

from tsd import durable
from tsd.errors import StartupError


def test_the_generation_before_is_kept(tmp_path: Path) -> None:
    path = tmp_path / "state.json"
    for content in (b"1", b"2", b"3"):
        durable.replace(path, content)
    assert path.read_bytes() == b"3"
    assert (tmp_path / "state.previous").read_bytes() == b"2"
    assert sorted(file.name for file in tmp_path.iterdir()) == ["state.json", "state.previous"]


def test_where_it_cannot_be_written_the_old_one_stands(tmp_path: Path) -> None:
    path = tmp_path / "state.json"
    durable.replace(path, b"1")
    (tmp_path / "state.new").mkdir()
    with pytest.raises(IsADirectoryError):
        durable.replace(path, b"2")
    assert path.read_bytes() == b"1"


def decoded(content: bytes) -> int:
    return int(content)


def test_of_a_damaged_file_the_generation_before_is_taken_until_there_is_a_new_one(
    tmp_path: Path,
) -> None:
    path = tmp_path / "state.json"
    assert durable.read(path, decoded) == (None, "")
    for content in (b"1", b"2", b"?"):
        durable.replace(path, content)
    for reason in ("state.json was damaged (", "state.json is missing; the generation before"):
        content_read, trouble = durable.read(path, decoded)
        assert content_read == 2
        assert trouble.startswith(reason)
    assert (tmp_path / "state.bad").read_bytes() == b"?"
    durable.replace(path, b"3")
    assert durable.read(path, decoded) == (3, "")


def test_one_that_cannot_be_read_is_not_taken_for_one_that_is_not_there(tmp_path: Path) -> None:
    path = tmp_path / "state.json"
    path.mkdir()
    with pytest.raises(StartupError, match="cannot be read"):
        durable.read(path, decoded)


def test_where_both_are_damaged_nothing_is_there(tmp_path: Path) -> None:
    path = tmp_path / "state.json"
    durable.replace(path, b"?")
    assert durable.read(path, decoded)[1].endswith("there is no generation before")
    durable.replace(path, b"?")
    durable.replace(path, b"?")
    for reason in ("state.json was damaged (", "state.json is missing; the generation before is"):
        content, trouble = durable.read(path, decoded)
        assert content is None
        assert trouble.startswith(reason)
