"""The desired state on disk: the one before or the one after, never a mixture."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tsd.models import state

FIRST = state.DesiredState(
    models={
        "m": state.DesiredModel("1.0", {"1.0": state.DesiredVersion("/a.mar", "/d", 2, {"x": 1})})
    }
)
SECOND = state.DesiredState()


def test_what_was_saved_is_read(tmp_path: Path) -> None:
    assert state.read(tmp_path) == (state.DesiredState(), "")
    state.save(tmp_path, FIRST)
    assert state.read(tmp_path) == (FIRST, "")


class Cut(Exception):
    """The power went."""


@pytest.mark.parametrize("cut_at", range(12))
def test_f27_a_cut_leaves_the_state_before_or_after(
    tmp_path: Path, cut_at: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    state.save(tmp_path, FIRST)
    calls = 0

    def cut(name: str, original: object) -> object:
        def call(*arguments: object, **keywords: object) -> object:
            nonlocal calls
            if calls == cut_at:
                raise Cut(name)
            calls += 1
            return original(*arguments, **keywords)  # type: ignore[operator]

        return call

    # The seam is the system call: each of them may be the last one.
    for owner, name in ((os, "fsync"), (os, "link"), (os, "open"), (Path, "open")):
        monkeypatch.setattr(owner, name, cut(name, getattr(owner, name)))
    for name in ("rename", "unlink"):
        monkeypatch.setattr(Path, name, cut(name, getattr(Path, name)))
    was_cut = True
    try:
        state.save(tmp_path, SECOND)
        was_cut = False
    except Cut:
        pass
    monkeypatch.undo()
    found, trouble = state.read(tmp_path)
    assert found in ((FIRST, SECOND) if was_cut else (SECOND,))
    assert trouble == ""


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b'{"format": 99}', b"\xff\xfe"])
def test_f28_a_damaged_file_is_set_aside_for_the_one_before(tmp_path: Path, content: bytes) -> None:
    state.save(tmp_path, FIRST)
    state.save(tmp_path, SECOND)
    path = tmp_path / state.FILE_NAME
    path.write_bytes(content)
    found, trouble = state.read(tmp_path)
    assert found == FIRST
    assert "damaged" in trouble
    assert path.with_suffix(".bad").read_bytes() == content


def test_f28_two_damaged_files_are_said_and_nothing_is_restored(tmp_path: Path) -> None:
    path = tmp_path / state.FILE_NAME
    path.write_bytes(b"{")
    found, trouble = state.read(tmp_path)
    assert found == state.DesiredState()
    assert "no model is restored" in trouble
