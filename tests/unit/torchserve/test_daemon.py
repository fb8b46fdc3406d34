"""The folder of its own that the server gets, whatever earlier ones left behind."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from tsd_torchserve import pid_file
from tsd_torchserve.daemon import PREFIX, own_folder, remove_leftovers


def test_what_a_killed_server_of_the_same_number_left_is_removed(tmp_path: Path) -> None:
    """As in a container that is started again: processes have the same numbers every time."""
    (tmp_path / f"{PREFIX}{os.getpid()}" / "run").mkdir(parents=True)
    remove_leftovers(tmp_path)
    with own_folder(tmp_path) as folder:
        assert list(folder.iterdir()) == []


def test_folders_of_processes_that_are_there_are_left_alone(tmp_path: Path) -> None:
    (tmp_path / f"{PREFIX}{os.getppid()}").mkdir()
    remove_leftovers(tmp_path)
    assert (tmp_path / f"{PREFIX}{os.getppid()}").is_dir()


def test_a_process_does_not_take_itself_for_the_server_that_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    pid_file.write(os.getpid())
    monkeypatch.setattr(pid_file, "command_of", lambda _pid: b"/opt/tsd/bin/python torchserve")
    assert pid_file.read() is None
