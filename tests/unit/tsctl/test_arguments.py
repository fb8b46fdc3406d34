"""The command line: what is understood, and what is refused with which words."""

from __future__ import annotations

from importlib import import_module

import pytest

from tsctl.arguments import COMMANDS, parse
from tsctl.failure import Failure, Status


@pytest.mark.parametrize("words", ["--json --socket /s list", "list --json --socket /s"])
def test_the_options_of_every_command_stand_before_it_or_after_it(words: str) -> None:
    arguments = parse(words.split())
    assert arguments.is_json
    assert not arguments.is_quiet
    assert arguments.socket == "/s"


@pytest.mark.parametrize(
    "words",
    [
        "predict digits seven.png --version 2.0",
        "predict digits --version 2.0 seven.png",
        "predict --version 2.0 digits seven.png",
    ],
)
def test_options_stand_anywhere_between_the_words_of_a_command(words: str) -> None:
    arguments = parse(words.split())
    assert (arguments.model, arguments.file, arguments.version) == ("digits", "seven.png", "2.0")


@pytest.mark.parametrize(
    ("words", "why"),
    [
        ("", "required: COMMAND"),
        ("restart", "invalid choice: 'restart'"),
        ("list digits", "unrecognized arguments: digits"),
        ("scale digits many", "'many' is not a number of 0 or more"),
        ("register a.mar --batch 3", "unrecognized arguments: --batch"),
        ("logs --level loud", "invalid choice: 'loud'"),
        ("pack --model-name digits", "required: --handler"),
    ],
)
def test_a_wrong_command_line_is_a_failure_like_all_others(words: str, why: str) -> None:
    with pytest.raises(Failure) as caught:
        parse(words.split())
    assert caught.value.status == Status.USAGE
    assert why in caught.value.why
    assert "--help" in caught.value.fix


def test_every_command_has_a_module_that_runs_it() -> None:
    for command in COMMANDS.values():
        assert callable(import_module(f"tsctl.commands.{command.module}").run)


def test_the_version_is_shown_without_a_command(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        parse(["--version"])
    assert caught.value.code == 0
    assert capsys.readouterr().out.startswith("tsctl ")


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_explains_itself(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        parse([command, "--help"])
    assert caught.value.code == 0
    assert f"usage: tsctl {command}" in capsys.readouterr().out
