"""What is installed already is known by what was asked for; what nobody asks for is deleted."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from pathlib import Path

import pytest

from tsd.errors import InvalidArchive
from tsd.models.description import ModelFiles
from tsd.models.requirements import Environments, digest_of, file_of
from tsd.settings import Config


@dataclass(frozen=True)
class Loaded:
    """A runtime whose fork server is ready."""

    runtime: str
    python: Path
    versions: dict[str, str]


def files(folder: Path, **model: object) -> ModelFiles:
    return ModelFiles(folder / "m.mar", folder, {"model": model}, {})


def test_the_manifest_names_the_file(tmp_path: Path) -> None:
    (tmp_path / "needs.txt").touch()
    assert file_of(files(tmp_path)) is None
    assert file_of(files(tmp_path, requirementsFile="needs.txt")) == tmp_path / "needs.txt"
    for name in ("gone.txt", "../needs.txt"):
        with pytest.raises(InvalidArchive):
            file_of(files(tmp_path, requirementsFile=name))


def test_what_is_asked_for_and_the_runtime_make_the_name(tmp_path: Path) -> None:
    needs, wheel = tmp_path / "needs.txt", tmp_path / "own.whl"
    needs.write_text("one==1\n")
    first = digest_of(needs, ["python 3.11"])
    assert digest_of(needs, ["python 3.11"]) == first
    assert digest_of(needs, ["python 3.12"]) != first
    needs.write_text("one==1\n./own.whl\n")
    wheel.write_bytes(b"1")
    second = digest_of(needs, ["python 3.11"])
    assert second != first
    # No word is too long, a signed URL for one.
    needs.write_text("one @ https://host/" + "x" * 5_000)
    assert digest_of(needs, ["python 3.11"]) != first
    needs.write_text("one==1\n./own.whl\n")
    # A file that it names counts with its content.
    wheel.write_bytes(b"2")
    assert digest_of(needs, ["python 3.11"]) != second


def test_what_is_there_is_taken_and_what_nobody_asked_for_is_deleted(tmp_path: Path) -> None:
    needs = tmp_path / "needs.txt"
    needs.write_text("one==1\n")
    # No such interpreter: where the folder is there, it is not asked for anything.
    place = tmp_path / "environments" / digest_of(needs, ["/nowhere/python", "torch 2.4"])
    for folder in (place, tmp_path / "environments" / "old"):
        folder.mkdir(parents=True)

    async def use() -> Path:
        environments = Environments(tmp_path)
        runtime = Loaded("cpu", Path("/nowhere/python"), {"torch": "2.4"})
        provided = await environments.provide("m", needs, Config(), runtime)
        await environments.discard_unused()
        return provided

    assert asyncio.run(use()) == place
    assert list((tmp_path / "environments").iterdir()) == [place]


def test_without_any_there_is_nothing_to_delete(tmp_path: Path) -> None:
    asyncio.run(Environments(tmp_path).discard_unused())
    assert not list(tmp_path.iterdir())
