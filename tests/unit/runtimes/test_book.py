"""The runtimes by name: which is the default, what is kept, and what a damaged file costs."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from tsd.errors import NoRuntime, StateNotSaved, UnknownRuntime
from tsd.runtimes.book import Runtime, Runtimes

OWN = Path("/usr/bin/python3")
CPU, GPU = Runtime("cpu", "/opt/cpu/bin/python"), Runtime("gpu", "/opt/gpu/bin/python")


def book(
    folder: Path, *runtimes: Runtime, default: str = "", python: Path | None = None
) -> Runtimes:
    """A book that was read from disk after these were put into it."""

    async def story() -> Runtimes:
        first = Runtimes(folder, python, OWN)
        await first.read()
        for runtime in runtimes:
            await first.put(runtime, is_default=runtime.name == default)
        second = Runtimes(folder, python, OWN)
        await second.read()
        return second

    return asyncio.run(story())


def default_of(runtimes: Runtimes) -> str:
    return runtimes.default.name if runtimes.default else ""


def test_the_first_is_the_default_until_another_one_is_chosen(tmp_path: Path) -> None:
    assert default_of(book(tmp_path, CPU, GPU)) == "cpu"
    assert default_of(book(tmp_path, CPU, GPU, default="gpu")) == "gpu"
    # Known anew, it stays what it is.
    assert default_of(book(tmp_path, CPU)) == "gpu"


def test_the_setting_comes_before_the_kept_and_those_before_the_daemons_own(tmp_path: Path) -> None:
    assert default_of(Runtimes(tmp_path, None, OWN)) == "own"
    assert [runtime.name for runtime in book(tmp_path, CPU)] == ["own", "cpu"]
    configured = book(tmp_path, CPU, python=Path("/opt/python"))
    assert default_of(configured) == "configured"
    assert configured.find("python3").python == "/opt/python"
    assert configured.find("cpu") == CPU


def test_without_its_default_the_oldest_takes_its_place(tmp_path: Path) -> None:
    runtimes = book(tmp_path, GPU, CPU, default="cpu")
    asyncio.run(runtimes.drop("cpu"))
    assert default_of(runtimes) == "gpu"
    asyncio.run(runtimes.drop("gpu"))
    assert default_of(runtimes) == "own"


def test_a_name_that_is_not_there_is_refused_in_torchserves_words(tmp_path: Path) -> None:
    with pytest.raises(UnknownRuntime, match="Invalid RuntimeType value: java"):
        Runtimes(tmp_path, None, OWN).find("java")


def test_where_there_is_none_the_operator_learns_how_to_get_one(tmp_path: Path) -> None:
    with pytest.raises(NoRuntime) as caught:
        Runtimes(tmp_path, None, None).find("python")
    assert "tsctl runtime add" in caught.value.fix


def test_a_damaged_file_is_kept_aside_and_the_one_before_is_used(tmp_path: Path) -> None:
    book(tmp_path, CPU, GPU)
    (tmp_path / "runtimes" / "cpu").mkdir(parents=True)
    (tmp_path / "runtimes.json").write_text("{")
    assert [runtime.name for runtime in book(tmp_path)] == ["own", "cpu"]
    assert (tmp_path / "runtimes.bad").read_text() == "{"
    (tmp_path / "runtimes.json").write_text('{"format": 2}')
    (tmp_path / "runtimes.previous").unlink()
    assert [runtime.name for runtime in book(tmp_path)] == ["own"]
    # What no file names any more may be somebody's environment all the same.
    assert (tmp_path / "runtimes" / "cpu").is_dir()


def test_environments_that_were_never_finished_are_deleted(tmp_path: Path) -> None:
    for name in ("cpu/bin", "half/unfinished"):
        (tmp_path / "runtimes" / name).mkdir(parents=True)
    book(tmp_path, CPU)
    assert [path.name for path in (tmp_path / "runtimes").iterdir()] == ["cpu"]


def test_what_cannot_be_saved_is_not_known(tmp_path: Path) -> None:
    runtimes = Runtimes(tmp_path / "gone", None, OWN)
    with pytest.raises(StateNotSaved):
        asyncio.run(runtimes.put(CPU, is_default=True))
    assert "cpu" not in runtimes
