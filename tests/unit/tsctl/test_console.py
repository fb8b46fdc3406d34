"""Where words go, and how they look there."""

from __future__ import annotations

import io
import json

import pytest

from tsctl.console import Console
from tsctl.failure import Failure, Status, from_error


class Terminal(io.StringIO):
    """A stream that says it is a terminal."""

    def isatty(self) -> bool:
        return True


def plain() -> Console:
    return Console(io.StringIO(), io.StringIO())


def text_of(stream: object) -> str:
    assert isinstance(stream, io.StringIO)
    return stream.getvalue()


@pytest.mark.parametrize(
    ("output", "environment", "text"),
    [
        (Terminal(), {}, "\x1b[32mready\x1b[0m"),
        (Terminal(), {"NO_COLOR": ""}, "\x1b[32mready\x1b[0m"),
        (Terminal(), {"NO_COLOR": "1"}, "ready"),
        (Terminal(), {"TERM": "dumb"}, "ready"),
        (io.StringIO(), {}, "ready"),
    ],
)
def test_colours_are_for_terminals_that_want_them(
    output: io.StringIO, environment: dict[str, str], text: str
) -> None:
    assert Console(output, io.StringIO(), environment).state("ready", "ready") == text


def test_a_state_that_is_not_known_has_no_colour() -> None:
    assert Console(Terminal(), io.StringIO()).state("odd", "odd") == "odd"


def test_a_failure_is_three_lines_without_control_characters() -> None:
    console = plain()
    console.fail(Failure(Status.REJECTED, "no\x1b[2J", "a\nb", "c"))
    assert text_of(console.errors) == "tsctl: no\\x1b[2J\n  why: a\\nb\n  fix: c\n"
    assert text_of(console.output) == ""


def test_a_traceback_follows_the_three_lines_unless_quiet() -> None:
    failure = from_error({"message": "m", "traceback": "T:\n  x\x1b"}, 500)
    loud, quiet = plain(), plain()
    quiet.is_quiet = True
    loud.fail(failure)
    quiet.fail(failure)
    assert text_of(loud.errors).splitlines()[3:] == ["    T:", "      x\\x1b"]
    assert len(text_of(quiet.errors).splitlines()) == 3


def test_a_failure_in_json_is_the_daemons_error_object_completed() -> None:
    console = plain()
    console.is_json = True
    console.fail(from_error({"code": 404, "type": "T", "message": "m"}, 404))
    assert text_of(console.errors) == ""
    assert json.loads(text_of(console.output)) == {
        "error": {
            "code": 404,
            "type": "T",
            "message": "m",
            "why": "T, HTTP 404",
            "fix": "`tsctl list` shows the models and their versions",
            "exit_status": 4,
        }
    }


def test_json_is_one_line_for_programs_and_laid_out_for_people() -> None:
    program, person = plain(), Console(Terminal(), io.StringIO())
    program.show_json({"a": "\x9b"})
    person.show_json({"a": "\x9b"})
    assert text_of(program.output) == '{"a": "\\u009b"}\n'
    assert text_of(person.output) == '{\n  "a": "\\u009b"\n}\n'


def test_quiet_confirms_nothing() -> None:
    loud, quiet = plain(), plain()
    quiet.is_quiet = True
    for console in (loud, quiet):
        console.confirm("done\r")
    assert (text_of(loud.output), text_of(quiet.output)) == ("done\\r\n", "")
