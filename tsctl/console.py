"""Where tsctl's words go: answers to standard output, progress and failures to standard error.

Knows what the operator asked for (JSON, quiet) and what the terminal can show (colours)."""

from __future__ import annotations

import io
import json
import os
import sys
from collections.abc import Iterable, Mapping
from typing import Any, TextIO

from tsctl.failure import Failure
from tsctl.format import COLOURS, STATE_COLOURS, block, escape


class Console:
    """The two streams of one command, and how they are to be used."""

    def __init__(
        self, output: TextIO, errors: TextIO, environment: Mapping[str, str] | None = None
    ) -> None:
        self.output = output
        self.errors = errors
        self.is_json = False
        self.is_quiet = False
        self._environment = environment or {}

    def is_live(self, stream: TextIO) -> bool:
        """Whether lines on this stream can be coloured and rewritten."""
        return stream.isatty() and self._environment.get("TERM") != "dumb"

    def colour(self, text: str, name: str | None) -> str:
        """The text, coloured if standard output is a terminal that may have colours."""
        if not name or self._environment.get("NO_COLOR") or not self.is_live(self.output):
            return text
        return f"\x1b[{COLOURS[name]}m{text}\x1b[0m"

    def state(self, state: object, text: str) -> str:
        """A text in the colour of a state."""
        return self.colour(text, STATE_COLOURS.get(str(state)))

    def show(self, lines: Iterable[str]) -> None:
        for line in lines:
            print(line, file=self.output)

    def show_json(self, document: Any) -> None:
        """One document: laid out for a person, on one line for a program."""
        indent = 2 if self.output.isatty() else None
        print(json.dumps(document, indent=indent), file=self.output, flush=True)

    def confirm(self, text: str) -> None:
        """Say that a change is made, unless the operator wants to hear nothing."""
        if not self.is_quiet:
            print(escape(text), file=self.output)

    def fail(self, failure: Failure) -> None:
        """Say what went wrong: three lines, and the handler's traceback if there is one."""
        if self.is_json:
            self.show_json({"error": failure_members(failure)})
            return
        self.output.flush()
        for line in failure_lines(failure, with_traceback=not self.is_quiet):
            print(line, file=self.errors)


def failure_lines(failure: Failure, *, with_traceback: bool) -> list[str]:
    lines = [
        f"tsctl: {escape(failure.what)}",
        f"  why: {escape(failure.why)}",
        f"  fix: {escape(failure.fix)}",
    ]
    if failure.traceback and with_traceback:
        lines += block(failure.traceback)
    return lines


def failure_members(failure: Failure) -> dict[str, Any]:
    """The daemon's error object, completed with what tsctl itself knows."""
    return {
        **failure.answer,
        "message": failure.what,
        "why": failure.why,
        "fix": failure.fix,
        "exit_status": int(failure.status),
    }


def standard_console() -> Console:
    """The console of this process; what its encoding cannot say is escaped, not refused."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    return Console(sys.stdout, sys.stderr, os.environ)
