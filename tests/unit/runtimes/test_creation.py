"""What pip is asked for, and what an environment must turn out to be."""

from __future__ import annotations

import asyncio
import os
import sys
from pathlib import Path
from typing import Any

import pytest

from tsd.errors import BadRequest, RuntimeRefused
from tsd.runtimes.creation import TORCH, Maker, Wish, discard, discard_unfinished

INDEX = "https://index.example/whl/{build}"


@pytest.mark.parametrize(
    ("wish", "requirement", "source"),
    [
        (Wish("cpu"), TORCH, ""),
        (Wish("cu126", index_url=INDEX), TORCH, INDEX.format(build="cu126")),
        # The index has one build only; elsewhere its name is part of the version.
        (
            Wish("cu126", is_exact=True, torch="2.8.0", index_url=INDEX),
            "torch==2.8.0",
            INDEX.format(build="cu126"),
        ),
        (Wish("cpu", is_exact=True, torch="2.8.0"), "torch==2.8.0+cpu", ""),
        (Wish("cpu", is_exact=True, torch="2.8.0+cpu"), "torch==2.8.0+cpu", ""),
        (Wish("cpu", torch="2.8.0"), "torch==2.8.0", ""),
        (
            Wish("cpu", index_url=INDEX, wheels="/srv/wheels"),
            TORCH,
            "/srv/wheels",
        ),
    ],
)
def test_the_build_is_chosen_by_the_index_or_else_by_the_version(
    wish: Wish, requirement: str, source: str
) -> None:
    assert wish.requirement == requirement
    # A password in a URL is not for the command line, which every user of the machine sees.
    is_folder = source.startswith("/")
    assert wish.sources == (["--no-index", "--find-links", source] if is_folder else [])
    assert wish.index == ({"PIP_INDEX_URL": source} if source and not is_folder else {})


@pytest.mark.parametrize(
    "said",
    [
        {"torch": "@ file:///x"},
        {"torch": "2.8;"},
        {"python": "python3"},
        {"wheels": "w"},
        {"wheels": "/w\0"},
    ],
)
def test_what_pip_or_the_daemon_would_take_for_something_else_is_refused(said: Any) -> None:
    with pytest.raises(BadRequest):
        Wish("cpu", **said).check()


def make(folder: Path, timeout_s: float, source: str) -> list[dict[str, object]]:
    """What is said while an environment is made by that program."""
    program = folder / "program"
    program.write_text(f"#!/bin/sh\n{source}\n")
    program.chmod(0o755)
    said: list[dict[str, object]] = []
    maker = Maker(folder / "runtimes" / "x", os.environ, said.append)
    wish = Wish("cpu", python=str(program))
    with pytest.raises(RuntimeRefused) as caught:
        asyncio.run(maker.make(wish, timeout_s, timeout_s))
    assert not (folder / "runtimes" / "x").exists()
    return [*said, {"why": caught.value.why}]


def test_the_last_words_of_what_fails_are_the_reason(tmp_path: Path) -> None:
    *said, error = make(tmp_path, 60.0, "printf 'first\\rsecond\\n'; echo no venv here; exit 1")
    assert [words.get("line") for words in said] == [None, "first", "second", "no venv here"]
    assert str(error["why"]).endswith("no venv here")


def test_of_a_flood_the_last_lines_are_told(tmp_path: Path) -> None:
    source = f"exec {sys.executable} -c 'import os; os.write(1, b\"x\\n\" * 30_000); exit(1)'"
    *said, _ = make(tmp_path, 60.0, source)
    assert 1 < len(said) < 1_000


def test_one_that_takes_too_long_is_given_up(tmp_path: Path) -> None:
    *_, error = make(tmp_path, 0.3, "sleep 600")
    assert "create_timeout_s" in str(error["why"])


def test_what_was_not_finished_is_known_as_such(tmp_path: Path) -> None:
    whole, half = tmp_path / "whole", tmp_path / "half"
    whole.mkdir()
    (half / "unfinished").mkdir(parents=True)
    discard_unfinished(tmp_path)
    assert list(tmp_path.iterdir()) == [whole]
    discard(whole)
    discard(whole)
    assert not list(tmp_path.iterdir())
