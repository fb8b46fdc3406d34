"""Completions: the files are what the parsers say, and the shells make the right offers of them."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

FOLDER = Path(__file__).parents[2] / "packaging" / "completions"
COMPLETE = """
source {file}
COMP_WORDS=({words}); COMP_CWORD={last}
_{program}
printf '%s\\n' "${{COMPREPLY[@]}}"
"""
# What the client prints, on one line, for `list` and for `runtime list`; without a daemon nothing.
CLIENT = """#!/bin/sh
case "$*" in
    'list --json') echo '{"models": [{"name": "digits", "state": "ready"}, {"name": "echo"}]}' ;;
    '--socket /other list --json') echo '{"models": [{"name": "elsewhere"}]}' ;;
    'runtime list --json') echo '{"runtimes": [{"name": "cpu", "python": "/opt/bin/python"}]}' ;;
    *) echo "$*" >&2; exit 6 ;;
esac
"""


@pytest.fixture
def client(tmp_path: Path) -> dict[str, str]:
    """An environment in which `tsctl` answers as if there was a daemon."""
    program = tmp_path / "bin" / "tsctl"
    program.parent.mkdir()
    program.write_text(CLIENT)
    program.chmod(0o755)
    return os.environ | {"PATH": f"{program.parent}:{os.environ['PATH']}"}


def offers(words: Sequence[str], environment: dict[str, str], folder: Path | None = None) -> str:
    """What bash offers for the last word."""
    program = words[0]
    text = COMPLETE.format(
        file=FOLDER / "bash" / program,
        words=" ".join(f"'{word}'" for word in words),
        last=len(words) - 1,
        program=program,
    )
    return run(["bash", "--norc", "-uc", text], environment, folder).strip()


def run(command: list[str], environment: dict[str, str], folder: Path | None = None) -> str:
    """What the command prints; it may not complain."""
    done = subprocess.run(
        command, env=environment, cwd=folder, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


def test_the_files_are_what_the_parsers_say(tmp_path: Path) -> None:
    run([sys.executable, str(FOLDER / "generate.py"), str(tmp_path)], dict(os.environ))
    made = {path.relative_to(tmp_path): path for path in tmp_path.rglob("*") if path.is_file()}
    assert len(made) == 6
    for name, path in made.items():
        assert (FOLDER / name).read_text() == path.read_text(), (
            f"{name} is old: run packaging/completions/generate.py"
        )


@pytest.mark.parametrize(
    ("words", "offered"),
    [
        ("tsctl reg", "register"),
        ("tsctl un", "unregister"),
        ("tsctl --json desc", "describe"),
        ("tsctl --socket /run/x desc", "describe"),
        ("tsctl --socket = /run/x desc", "describe"),
        ("tsctl register --model-n", "--model-name"),
        ("tsctl register --model-name x --hand", "--handler"),
        ("tsctl scale digits --no", "--no-wait"),
        ("tsctl logs --level w", "warning"),
        ("tsctl logs --level = err", "error"),
        ("tsctl pack --archive-format z", "zip-store"),
        ("tsctl describe d", "digits"),
        ("tsctl describe d x", ""),
        ("tsctl predict --data 3 ", "digits echo"),
        ("tsctl --socket /other predict ", "elsewhere"),
        ("tsctl --socket /nobody predict ", ""),
        ("tsctl list ", ""),
        ("tsctl runtime rem", "remove"),
        ("tsctl runtime remove ", "cpu"),
        ("tsctl runtime create a", "auto"),
        ("tsctl runtime --json create --tor", "--torch"),
        ("tsctl register digits.mar --runtime ", "cpu"),
        ("tsd --check", "--check-config"),
        ("tsd --log-level de", "debug"),
        ("tsd --http ", ""),
    ],
)
def test_bash_offers_what_may_stand_there(words: str, offered: str, client: dict[str, str]) -> None:
    assert offers(words.split(" "), client).split() == offered.split()


@pytest.mark.parametrize(
    ("words", "offered"),
    [
        ("tsctl register ", ["a folder", "digits.mar"]),
        ("tsctl register di", ["digits.mar"]),
        ("tsctl predict digits a", ["a folder"]),
        ("tsctl pack --export-path ", ["a folder"]),
        ("tsd --config d", ["digits.mar"]),
        ("tsd --state-dir ", ["a folder"]),
    ],
)
def test_files_are_offered_where_files_are_due(
    words: str, offered: list[str], client: dict[str, str], tmp_path: Path
) -> None:
    folder = tmp_path / "here"
    (folder / "a folder").mkdir(parents=True)
    (folder / "digits.mar").touch()
    assert sorted(offers(words.split(" "), client, folder).splitlines()) == offered


def test_nothing_is_offered_and_nothing_said_without_a_daemon(tmp_path: Path) -> None:
    environment = os.environ | {
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        "TSD_SOCKET": str(tmp_path / "control.sock"),
    }
    assert offers(["tsctl", "describe", ""], environment) == ""


@pytest.mark.parametrize(
    ("shell", "option"),
    [("bash", "-n"), ("zsh", "-n"), ("fish", "--no-execute"), ("shellcheck", "--shell=bash")],
)
def test_the_shells_read_their_files(shell: str, option: str) -> None:
    if shutil.which(shell) is None:
        pytest.skip(f"{shell} is not installed")
    folder = FOLDER / ("bash" if shell == "shellcheck" else shell)
    for file in folder.iterdir():
        run([shell, option, str(file)], dict(os.environ))


@pytest.mark.skipif(shutil.which("fish") is None, reason="fish is not installed")
@pytest.mark.parametrize(
    ("words", "offered"),
    [
        ("tsctl unre", "unregister"),
        ("tsctl logs --level w", "warning"),
        ("tsctl describe ", "digits echo"),
        ("tsctl --socket /other describe ", "elsewhere"),
        ("tsctl register --model-n", "--model-name"),
        ("tsctl runtime remove ", "cpu"),
        ("tsd --check", "--check-config"),
    ],
)
def test_fish_offers_the_same(words: str, offered: str, client: dict[str, str]) -> None:
    file = FOLDER / "fish" / f"{words.split()[0]}.fish"
    text = run(["fish", "--no-config", "-c", f"source {file}; complete -C '{words}'"], client)
    assert " ".join(line.split("\t")[0] for line in text.splitlines()) == offered
