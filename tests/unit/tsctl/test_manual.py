"""The manual page names every command, option and exit status that there is."""

from __future__ import annotations

import argparse
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tsctl.arguments import COMMANDS, build_parser
from tsctl.failure import Status

PAGE = Path(__file__).parents[3].joinpath("man", "tsctl.1").read_text()


def options(parser: argparse.ArgumentParser) -> Iterator[str]:
    for word in re.findall(r"(?<![\w-])--?[a-z][a-z-]*", parser.format_help()):
        yield word.removeprefix("-")


def command_parser(name: str) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog=name)
    COMMANDS[name].add_arguments(parser)
    return parser


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_is_in_the_page_with_its_options(name: str) -> None:
    start = re.search(rf"^\.(It )?Cm {name}\b", PAGE, re.MULTILINE)
    assert start
    part = re.split(r"^\.It Xo\n|^\.S[sh] ", PAGE[start.start() + 8 :], flags=re.MULTILINE)[0]
    for option in set(options(command_parser(name))) - {"-help", "h"}:
        assert re.search(rf"Fl {option}\b", part), option


def test_the_options_of_every_command_are_in_the_page() -> None:
    for option in options(build_parser()):
        assert re.search(rf"Fl {option}\b", PAGE), option


def test_every_exit_status_is_in_the_page() -> None:
    part = PAGE.partition(".Sh EXIT STATUS")[2].partition(".Sh")[0]
    assert re.findall(r"^\.It (\d+)$", part, re.MULTILINE) == [str(int(s)) for s in Status]


@pytest.mark.parametrize("name", ["TSD_SOCKET", "XDG_RUNTIME_DIR", "NO_COLOR", "TERM"])
def test_the_environment_is_in_the_page(name: str) -> None:
    assert f".It Ev {name}" in PAGE
