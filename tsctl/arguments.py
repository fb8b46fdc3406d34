"""The command line: every command, what it takes, and the module that does it.

Only the command that is asked for gets imported, later, by __main__.py; and what few need is
imported where they need it, since `tsctl list` is to be quick."""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable, Container, Sequence
from functools import partial
from typing import Any, NamedTuple, NoReturn

from tsctl.client import default_socket
from tsctl.failure import Failure, Status

Parser = argparse.ArgumentParser
HELP_WIDTH = 80


class Command(NamedTuple):
    """One command: what it is for, the module whose `run` does it, what it takes."""

    purpose: str
    module: str
    add_arguments: Callable[[Parser], None]


class CommandLineParser(argparse.ArgumentParser):
    """A parser whose complaints are failures like all others."""

    def __init__(self, **settings: Any) -> None:
        # A given width saves the import of what would find out the terminal's.
        layout = partial(argparse.HelpFormatter, width=HELP_WIDTH)
        super().__init__(allow_abbrev=False, formatter_class=layout, **settings)

    def error(self, message: str) -> NoReturn:
        what = "the command line is not understood"
        raise Failure(Status.USAGE, what, message, f"see `{self.prog} --help`")


class CommandParser(CommandLineParser):
    """The parser of one command: options may stand anywhere between its words.

    Left alone, argparse takes an optional word as absent once it meets an option before it, and
    then refuses `predict MODEL --version 2.0 FILE`."""

    _is_intermixing = False

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        # The intermixing parse comes back here, once for the options and once for the words.
        # A command with verbs of its own leaves that to them: argparse cannot intermix it.
        if self._is_intermixing or self._subparsers is not None:
            return super().parse_known_args(args, namespace)
        self._is_intermixing = True
        return self.parse_known_intermixed_args(args, namespace)


class ShowVersion(argparse.Action):
    """Print the version and leave."""

    def __call__(self, parser: Parser, *_: object) -> NoReturn:
        from tsctl.version import installed_version

        print(f"tsctl {installed_version()}")
        parser.exit()


def parse(words: Sequence[str]) -> argparse.Namespace:
    arguments = build_parser(words).parse_args(words)
    if arguments.socket is None:
        arguments.socket = default_socket(os.environ, is_root=os.geteuid() == 0)
    return arguments


def build_parser(words: Container[str] = ()) -> Parser:
    """The whole parser; a command's own arguments only if its name is among the words."""
    parser = CommandLineParser(
        prog="tsctl",
        description="Control tsd, the PyTorch model server.",
        epilog="`tsctl COMMAND --help` explains one command; `man tsctl` explains all.",
    )
    _add_global(parser)
    parser.set_defaults(socket=None, is_json=False, is_quiet=False)
    parser.add_argument(
        "--version",
        action=ShowVersion,
        nargs=0,
        default=argparse.SUPPRESS,
        help="show tsctl's version",
    )
    # The `prog` given here saves the formatting of a usage line at every start.
    commands = parser.add_subparsers(
        dest="command",
        required=True,
        metavar="COMMAND",
        title="commands",
        prog="tsctl",
        parser_class=CommandParser,
    )
    for name, command in COMMANDS.items():
        own = commands.add_parser(name, help=command.purpose, description=command.purpose + ".")
        if name in words:
            command.add_arguments(own)
            _add_global(own)
            own.set_defaults(module=command.module)
    return parser


def _add_global(parser: Parser) -> None:
    """Options that may stand before the command or after it."""
    options = parser.add_argument_group("options of every command")
    add, absent = options.add_argument, argparse.SUPPRESS
    add("--socket", metavar="PATH", default=absent, help="the daemon's control socket")
    add("--json", action="store_true", dest="is_json", default=absent, help="answer in JSON")
    add(
        *("-q", "--quiet"),
        action="store_true",
        dest="is_quiet",
        default=absent,
        help="no progress, no confirmation",
    )


def _register(parser: Parser) -> None:
    add = parser.add_argument
    add("archive", metavar="ARCHIVE", help="a file or folder here, a name in the store, or a URL")
    add("--model-name", metavar="NAME", help="instead of the archive's own name for the model")
    add("--handler", metavar="HANDLER", help="instead of the archive's own handler")
    add("--batch-size", type=_count, metavar="N", help="requests in a batch, at most")
    add("--max-batch-delay", type=_count, metavar="MS", help="milliseconds to wait for a full one")
    add("--initial-workers", type=_count, metavar="N", default=1, help="workers to start (1)")
    add("--response-timeout", type=_count, metavar="S", help="seconds a batch may take")
    add("--startup-timeout", type=_count, metavar="S", help="seconds a worker may take to start")
    add("--runtime", metavar="NAME", help="the interpreter of its workers: `tsctl runtime list`")
    _add_no_wait(parser)


def _unregister(parser: Parser) -> None:
    _add_model(parser)
    parser.add_argument("version", metavar="VERSION", nargs="?", help="default: the default one")


def _scale(parser: Parser) -> None:
    _add_model(parser)
    add = parser.add_argument
    add("workers", type=_count, metavar="N", nargs="?", help="how many workers it shall have")
    add("--version", metavar="VERSION", help="default: the default version")
    add("--batch-size", type=_count, metavar="N", help="requests in a batch, at most")
    add("--max-batch-delay", type=_count, metavar="MS", help="milliseconds to wait for a full one")
    _add_no_wait(parser)


def _set_default(parser: Parser) -> None:
    _add_model(parser)
    parser.add_argument("version", metavar="VERSION", help="answers when a client names none")


def _describe(parser: Parser) -> None:
    _add_model(parser)
    parser.add_argument("version", metavar="VERSION", nargs="?", help="default: the default one")


def _predict(parser: Parser) -> None:
    from pathlib import Path

    add = parser.add_argument
    _add_model(parser)
    add("file", metavar="FILE", nargs="?", default="-", help="the input; - is standard input")
    add("--data", metavar="STRING", help="the input itself, instead of a file")
    add("--version", metavar="VERSION", help="default: the default version")
    add("--content-type", metavar="TYPE", help="default: by the name of the file")
    add("-o", "--output", type=Path, metavar="OUT", help="write the answer to this file")


def _bench(parser: Parser) -> None:
    from tsctl.quantities import bounded, milliseconds, several

    add = parser.add_argument
    _add_model(parser)
    add("file", metavar="FILE", nargs="?", default="-", help="a sample input; - is standard input")
    add("--data", metavar="STRING", help="the input itself, instead of a file")
    add("--version", metavar="VERSION", help="default: the default version")
    add("--content-type", metavar="TYPE", help="default: by the name of the file")
    add("--latency", type=milliseconds, metavar="TIME", help="the target: 50ms, 1s; default: none")
    add(
        "--percentile",
        type=bounded(1.0, 100.0),
        default=99.0,
        metavar="P",
        help="that must keep it (99)",
    )
    add(
        "--concurrency",
        type=several(1, 1_000),
        default=(),
        metavar="LIST",
        help="clients: 1,8,64 and so on",
    )
    add(
        "--max-workers",
        type=bounded(1, 1_000),
        metavar="N",
        help="default: as many as there are processors",
    )
    add("--max-batch-size", type=bounded(1, 1_024), default=64, metavar="N", help="default: 64")
    add(
        "--seconds",
        type=bounded(0.1, 600.0),
        default=2.0,
        metavar="S",
        help="of each measurement (2)",
    )
    add("--apply", action="store_true", help="set what was found best")
    add("--force", action="store_true", help="although the model serves others now")


def _run(parser: Parser) -> None:
    add = parser.add_argument
    add("model", metavar="MODEL", help="demo, a model's name, or an archive to register first")
    add("file", metavar="FILE", nargs="?", help="the input; - is standard input")


def _runtime(parser: Parser) -> None:
    verbs = parser.add_subparsers(dest="verb", required=True, metavar="VERB", title="verbs")
    for name, (purpose, add_arguments) in RUNTIME_VERBS.items():
        verb = verbs.add_parser(name, help=purpose, description=purpose + ".")
        add_arguments(verb)
        _add_global(verb)


def _runtime_add(parser: Parser) -> None:
    what = "a Python interpreter, or the folder of a virtual or conda environment"
    parser.add_argument("path", metavar="PATH", help=what)
    _add_runtime_options(parser, "default: that of its environment")


def _runtime_create(parser: Parser) -> None:
    add = parser.add_argument
    add("kind", metavar="BUILD", nargs="?", default="auto", help=BUILDS)
    add("--torch", metavar="VERSION", help="default: the newest of those that were tested")
    add("--python", metavar="PATH", help="default: the daemon's own interpreter")
    add("--index-url", metavar="URL", help=INDEX)
    add("--wheels", metavar="FOLDER", help="take all packages from this folder")
    _add_runtime_options(parser, "default: the build")


def _runtime_one(parser: Parser) -> None:
    parser.add_argument("name", metavar="NAME", help="the runtime's name")


def _add_runtime_options(parser: Parser, name: str) -> None:
    parser.add_argument("--name", metavar="NAME", help=name)
    parser.add_argument("--default", action="store_true", help="for models that name no runtime")


def _logs(parser: Parser) -> None:
    add = parser.add_argument
    add("model", metavar="MODEL", nargs="?", help="only the lines of this model")
    add("-n", "--lines", type=_count, default=100, metavar="LINES", help="default: 100")
    add("-f", "--follow", action="store_true", help="go on with new lines as they are written")
    add("--level", choices=LEVELS, help="only lines of this level and worse")


def _pack(parser: Parser) -> None:
    from pathlib import Path

    add = parser.add_argument
    add("--model-name", metavar="NAME", required=True, help="what clients will call the model")
    add("-v", "--version", default="1.0", metavar="VERSION", help="default: 1.0")
    add("--handler", metavar="HANDLER", required=True, help="a Python file, or a built-in name")
    add("--serialized-file", type=Path, metavar="FILE", help="the weights or the whole model")
    add("--model-file", type=Path, metavar="FILE", help="the Python file of an eager model")
    add("--extra-files", metavar="LIST", help="files, folders and patterns, with commas between")
    add("-c", "--config-file", type=Path, metavar="FILE", help="the model's settings, in YAML")
    add("-r", "--requirements-file", type=Path, metavar="FILE", help="what the handler needs")
    add("--runtime", choices=("python", "python3", "LSP"), default="python")
    add("--export-path", type=Path, default=Path(), metavar="FOLDER", help="default: this one")
    formats = ("default", "zip-store", "tgz", "no-archive")
    add("--archive-format", choices=formats, default="default")
    add("-f", "--force", action="store_true", help="replace an archive of that name")


def _migrate(parser: Parser) -> None:
    from pathlib import Path

    parser.add_argument("file", type=Path, metavar="FILE", help="TorchServe's config.properties")
    parser.add_argument("--output", type=Path, metavar="FILE", help="write the settings there")


def _bugreport(parser: Parser) -> None:
    from pathlib import Path

    add = parser.add_argument
    add("-o", "--output", type=Path, metavar="FILE", help="default: a new file in this folder")
    add("-f", "--force", action="store_true", help="replace a file of that name")


def _nothing(parser: Parser) -> None:
    """For commands that take no arguments of their own."""


def _add_model(parser: Parser) -> None:
    parser.add_argument("model", metavar="MODEL", help="the model's name")


def _add_no_wait(parser: Parser) -> None:
    parser.add_argument("--no-wait", action="store_true", help="do not wait for the workers")


def _count(word: str) -> int:
    if not word.isascii() or not word.isdecimal():
        raise argparse.ArgumentTypeError(f"{word!r} is not a number of 0 or more")
    return int(word)


LEVELS = ("debug", "info", "warning", "error", "critical")

BUILDS = "cpu, cu126, cu130 and so on; auto (default): by this machine's NVIDIA driver"
INDEX = "where pip finds torch; {build} in it is replaced; default: runtimes.index_url, else pip's"

RUNTIME_VERBS: dict[str, tuple[str, Callable[[Parser], None]]] = {
    "list": ("Show the interpreters that can run models", lambda _: None),
    "add": ("Check an interpreter that has torch, and know it from now on", _runtime_add),
    "create": ("Make a virtual environment with torch, with pip", _runtime_create),
    "check": ("Check a runtime anew", _runtime_one),
    "set-default": ("Choose the runtime of models that name none", _runtime_one),
    "remove": ("Forget a runtime; one that was created is deleted", _runtime_one),
}

COMMANDS = {
    "register": Command("Make a model known and start its workers", "change", _register),
    "unregister": Command("Stop a model and forget it", "change", _unregister),
    "scale": Command("Set a model's workers, and its batches", "change", _scale),
    "set-default": Command("Choose the version that answers by default", "change", _set_default),
    "list": Command("Show all models and their versions", "list", _nothing),
    "describe": Command("Show one model: settings, workers, last error", "describe", _describe),
    "status": Command("Show how the daemon does", "status", _nothing),
    "predict": Command("Send one input to a model and print its answer", "predict", _predict),
    "bench": Command("Find a model's best batch size and workers", "bench", _bench),
    "run": Command("Register a model if need be, and send it one input", "run", _run),
    "logs": Command("Show the daemon's log", "logs", _logs),
    "runtime": Command("Add, make, check and remove interpreters", "runtime", _runtime),
    "reload": Command("Have the daemon read its configuration again", "reload", _nothing),
    "doctor": Command("Look for what is wrong on this machine", "doctor", _nothing),
    "bugreport": Command("Collect what a bug report needs", "bugreport", _bugreport),
    "migrate": Command("Translate TorchServe's config.properties", "migrate", _migrate),
    "pack": Command("Make a model archive; needs no daemon", "pack", _pack),
}
