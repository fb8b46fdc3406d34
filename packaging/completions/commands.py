"""What can be typed after `tsctl` and `tsd`, as their own parsers say it."""

from __future__ import annotations

import argparse
import typing
from collections.abc import Iterator
from dataclasses import dataclass

from tsctl.arguments import COMMANDS, build_parser
from tsd.__main__ import _parser as daemon_parser
from tsd.runtimes.builds import AUTO, CPU, CUDA_BUILDS
from tsd.settings import Level

# What stands for a word in the help says what the word can be; of all others nothing is known.
KINDS = {
    **dict.fromkeys(("FILE", "OUT", "ARCHIVE", "PATH", "LIST", "PYTHON", "CONFIG"), "files"),
    **dict.fromkeys(("FOLDER", "DIR", "MODEL_STORE", "RUNTIME_DIR", "STATE_DIR"), "folders"),
    "MODEL": "models",
    "RUNTIME": "runtimes",
}
WORDS = {"LOG_LEVEL": typing.get_args(Level), "BUILD": (AUTO, CPU, *CUDA_BUILDS)}
# Where the same word stands for something else.
EXCEPTIONS = {
    "register --runtime": "runtimes",
    "runtime check NAME": "runtimes",
    "runtime remove NAME": "runtimes",
    "runtime set-default NAME": "runtimes",
}


@dataclass(frozen=True)
class Word:
    """What may stand at a place: `kind` is words, files, folders, models, runtimes or anything."""

    name: str
    kind: str
    words: tuple[str, ...] = ()
    is_optional: bool = False


@dataclass(frozen=True)
class Option:
    """One option by all its names, and what it takes, if anything."""

    names: tuple[str, ...]
    about: str
    value: Word | None


@dataclass(frozen=True)
class Command:
    """A program, a command of it, or a command of that; `path` is empty for the program."""

    path: str
    about: str
    options: tuple[Option, ...]
    words: tuple[Word, ...]
    commands: tuple[Command, ...]

    @property
    def name(self) -> str:
        """Its own, without what it is a command of."""
        return self.path.rpartition(" ")[2]

    def all(self) -> Iterator[Command]:
        """This one and all below it."""
        yield self
        for command in self.commands:
            yield from command.all()


@dataclass(frozen=True)
class Program:
    """A program's name and its whole command line."""

    name: str
    root: Command


def programs() -> tuple[Program, ...]:
    """Both, as their parsers are now."""
    client = command_of(build_parser(COMMANDS), "", "")
    return Program("tsctl", client), Program("tsd", command_of(daemon_parser(), "", ""))


def command_of(parser: argparse.ArgumentParser, path: str, about: str) -> Command:
    """What the parser takes."""
    options: list[Option] = []
    words: list[Word] = []
    commands: list[Command] = []
    for action in parser._actions:  # noqa: SLF001 (argparse has no other way to ask)
        if isinstance(action, argparse._SubParsersAction):  # noqa: SLF001
            helps = {one.dest: one.help for one in action._choices_actions}  # noqa: SLF001
            for name, below in action.choices.items():
                commands.append(command_of(below, f"{path} {name}".strip(), helps.get(name) or ""))
        elif action.option_strings:
            options.append(option_of(action, path))
        else:
            words.append(word_of(action, path))
    return Command(path, about, tuple(options), tuple(words), tuple(commands))


def option_of(action: argparse.Action, path: str) -> Option:
    """One option."""
    value = None if action.nargs == 0 else word_of(action, path)
    return Option(tuple(action.option_strings), action.help or "", value)


def word_of(action: argparse.Action, path: str) -> Word:
    """What an option or a place takes."""
    name = action.metavar if isinstance(action.metavar, str) else action.dest.upper()
    words = tuple(map(str, action.choices or WORDS.get(name, ())))
    place = f"{path} {action.option_strings[-1] if action.option_strings else name}"
    kind = EXCEPTIONS.get(place) or KINDS.get(name, "anything")
    return Word(name, "words" if words else kind, words, action.nargs in ("?", "*"))


def filled(text: str, program: Program, names: str, tables: str) -> str:
    """The text of a shell for one program; `names` only where the daemon's names are offered."""
    kinds = {
        word.kind
        for command in program.root.all()
        for word in (*command.words, *(option.value for option in command.options))
        if word
    }
    text = text.replace("NAMES\n", names if {"models", "runtimes"} & kinds else "")
    return text.replace("PROGRAM", program.name).replace("TABLES\n", tables)
