"""tsctl: arguments -> one command -> an exit status."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from importlib import import_module

from tsctl.arguments import parse
from tsctl.client import Client
from tsctl.console import Console, standard_console
from tsctl.failure import Failure, Status


def main(words: Sequence[str] | None = None) -> int:
    """Run the command that the words name; returns the exit status."""
    words = sys.argv[1:] if words is None else words
    console = standard_console()
    # Known before the rest is understood, since what is not understood is told in JSON, too.
    console.is_json = "--json" in words
    try:
        run(words, console)
        console.output.flush()
    except Failure as failure:
        console.fail(failure)
        return failure.status
    except KeyboardInterrupt:
        return Status.INTERRUPTED
    except BrokenPipeError:
        return _without_output(Status.BROKEN_PIPE)
    except OSError as error:
        console.fail(_of_files(error))
        return _without_output(Status.FAILED)
    return Status.DONE


def run(words: Sequence[str], console: Console) -> None:
    arguments = parse(words)
    console.is_json, console.is_quiet = arguments.is_json, arguments.is_quiet
    command = import_module(f"tsctl.commands.{arguments.module}")
    command.run(arguments, Client(arguments.socket), console)


def _of_files(error: OSError) -> Failure:
    # The client explains its own errors, so this one is about the operator's files.
    fix = "check that it exists, that you have access, and that there is room"
    where = f" {error.filename}" if error.filename else ""
    return Failure(Status.FAILED, f"cannot use the file{where}", error.strerror or str(error), fix)


def _without_output(status: Status) -> Status:
    """Drop what is still buffered, or the interpreter would complain that it cannot flush."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return status


if __name__ == "__main__":
    sys.exit(main())
