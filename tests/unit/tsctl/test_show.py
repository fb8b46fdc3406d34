"""What list, describe, status and logs print: golden outputs."""

from __future__ import annotations

import io
from typing import Any

import pytest

from tsctl.arguments import parse
from tsctl.commands.describe import describe_lines
from tsctl.commands.list import model_lines
from tsctl.commands.logs import logs_request, record_lines
from tsctl.commands.status import status_lines
from tsctl.console import Console

PLAIN = Console(io.StringIO(), io.StringIO())


class Terminal(io.StringIO):
    """A stream that says it is a terminal."""

    def isatty(self) -> bool:
        return True


COLOURED = Console(Terminal(), io.StringIO())

DIGITS: dict[str, Any] = {
    "name": "digits",
    "version": "1.0",
    "is_default": True,
    "state": "ready",
    "phase": "ready",
    "workers": {"starting": 0, "idle": 1, "busy": 1, "stopping": 0},
    "wanted_workers": 2,
    "queue": 0,
    "requests": 1234,
    "errors": 0,
    "last_error": None,
}
BROKEN: dict[str, Any] = {
    **DIGITS,
    "name": "sentences",
    "version": "2",
    "is_default": False,
    "state": "loading",
    "phase": "warming",
    "workers": {"starting": 1},
    "last_error": "ImportError: no \x1b[2J\nline 2",
}


def text(lines: list[str]) -> str:
    return "\n".join(lines) + "\n"


def test_list_is_a_table() -> None:
    assert text(model_lines([DIGITS], PLAIN)) == (
        "MODEL   VERSION  DEFAULT  STATE  WORKERS  QUEUE  REQUESTS  ERRORS\n"
        "digits      1.0  *        ready      2/2      0      1234       0\n"
    )


def test_list_shows_runtimes_where_they_differ() -> None:
    rows = [{**DIGITS, "runtime": name} for name in ("cpu", "gpu")]
    assert "RUNTIME" not in text(model_lines(rows[:1], PLAIN))
    heading, *lines = model_lines(rows, PLAIN)
    assert heading.endswith("RUNTIME")
    assert [line.split()[-1] for line in lines] == ["cpu", "gpu"]


def test_list_shows_phases_and_last_errors_where_there_are_any() -> None:
    assert text(model_lines([DIGITS, BROKEN], PLAIN)) == (
        "MODEL      VERSION  DEFAULT  STATE              WORKERS  QUEUE  REQUESTS  ERRORS"
        "  LAST ERROR\n"
        "digits         1.0  *        ready                  2/2      0      1234       0"
        "  -\n"
        "sentences        2           loading (warming)      0/2      0      1234       0"
        "  ImportError: no \\x1b[2J\n"
    )


def test_list_says_how_to_begin() -> None:
    assert model_lines([], PLAIN) == [
        "no model is registered; `tsctl register ARCHIVE` makes one known"
    ]


def test_a_line_has_the_colour_of_its_state() -> None:
    heading, digits = model_lines([DIGITS], COLOURED)
    assert heading.startswith("\x1b[1mMODEL")
    assert digits.startswith("\x1b[32mdigits")


STATUS = {
    "version": "0.1.0",
    "pid": 4711,
    "state": "ready",
    "uptime_s": 192.4,
    "runtime": {"name": "cpu", "python": "/opt/cpu/bin/python", "torch": "2.13", "state": "ready"},
    "doors": [
        {"name": "http", "address": "127.0.0.1:8080"},
        {"name": "control", "address": "/run/tsd/control.sock"},
    ],
    "models": [],
    "requests": 20,
    "errors": 1,
    "rss_bytes": 47_185_920,
    "fork_server": {"pid": 4712, "state": "ready"},
    "state_dir": "/var/lib/tsd",
    "runtime_dir": "/run/tsd",
}


def test_status_is_the_daemon_at_a_glance() -> None:
    nothing = {"name": "", "python": "", "torch": "", "state": "none"}
    assert "Runtime  none: `tsctl runtime add" in text(
        status_lines({**STATUS, "runtime": nothing}, PLAIN)
    )
    assert text(status_lines(STATUS, PLAIN)) == (
        "● tsd 0.1.0: ready for 3 min 12 s\n"
        "      Process  4711, 45.0 MiB\n"
        "      Runtime  cpu: /opt/cpu/bin/python, torch 2.13: ready\n"
        "  Fork server  4712: ready\n"
        "        Doors  http 127.0.0.1:8080, control /run/tsd/control.sock\n"
        "     Requests  20, 1 errors\n"
        "     State in  /var/lib/tsd\n"
        "   Sockets in  /run/tsd\n"
        "\n"
        "no model is registered; `tsctl register ARCHIVE` makes one known\n"
    )


def test_the_dot_of_status_has_the_colour_of_the_state() -> None:
    assert status_lines(STATUS, COLOURED)[0].startswith("\x1b[32m●\x1b[0m tsd")


def test_status_of_a_daemon_that_is_starting_has_dashes() -> None:
    lines = status_lines({"state": "starting", "version": "0.1.0"}, PLAIN)
    assert lines[0] == "● tsd 0.1.0: starting for -"
    assert "        Doors  -" in lines


DESCRIPTION: dict[str, Any] = {
    "name": "digits",
    "version": "1.0",
    "is_default": True,
    "state": "ready",
    "handler": "handler.py",
    "archive": "/var/lib/tsd/store/digits.mar",
    "batch_size": 8,
    "max_batch_delay_ms": 0,
    "response_timeout_s": 120,
    "startup_timeout_s": 120,
    "min_workers": 1,
    "max_workers": 1,
    "device": "cpu",
    "runtime": "gpu",
    "origins": {
        "batch_size": "model-config.yaml",
        "response_timeout": "default",
        "runtime": "request",
    },
    "queue": {"waiting": 3, "limit": 100},
    "requests": 1234,
    "errors": 1,
    "mean_batch": 3.14159,
    "latency_ms": {"p50": 1.25, "p99": 4.5},
    "workers": [
        {
            "number": 1,
            "pid": 4713,
            "state": "idle",
            "device": "cpu",
            "started_at": "2026-11-22T08:00:00Z",
            "ready_ms": 12.34,
            "rss_bytes": 3_145_728,
            "batches": 400,
            "restarts": 0,
        }
    ],
    "last_error": {
        "at": "2026-11-22T08:01:00Z",
        "cause": "ValueError: \x1bno",
        "traceback": "Traceback:\n  File x\nValueError: \x1bno\n",
    },
}


def test_describe_shows_settings_with_their_origin_workers_and_the_last_error() -> None:
    assert text(describe_lines(DESCRIPTION, PLAIN)) == (
        "● digits/1.0 (default version): ready\n"
        "     Archive  /var/lib/tsd/store/digits.mar\n"
        "       Queue  3 of 100\n"
        "    Requests  1234, 1 errors\n"
        "  Mean batch  3.142\n"
        "     Latency  p50 1.2 ms, p99 4.5 ms\n"
        "\n"
        "Settings\n"
        "  SETTING             VALUE       FROM\n"
        "  handler             handler.py  -\n"
        "  batch_size          8           model-config.yaml\n"
        "  max_batch_delay_ms  0.0 ms      -\n"
        "  response_timeout_s  2 min 0 s   default\n"
        "  startup_timeout_s   2 min 0 s   -\n"
        "  min_workers         1           -\n"
        "  max_workers         1           -\n"
        "  device              cpu         -\n"
        "  runtime             gpu         request\n"
        "\n"
        "Workers\n"
        "  WORKER   PID  STATE  DEVICE               STARTED  READY IN   MEMORY  BATCHES"
        "  RESTARTS\n"
        "  #1      4713  idle   cpu     2026-11-22T08:00:00Z   12.3 ms  3.0 MiB      400"
        "         0\n"
        "\n"
        "Last error, 2026-11-22T08:01:00Z: ValueError: \\x1bno\n"
        "    Traceback:\n"
        "      File x\n"
        "    ValueError: \\x1bno\n"
    )


def test_describe_of_a_model_without_workers_or_errors_is_short() -> None:
    lines = describe_lines({**DESCRIPTION, "workers": [], "last_error": None}, PLAIN)
    assert lines[-2:] == ["Workers", "  none"]


@pytest.mark.parametrize(
    ("record", "line"),
    [
        (
            {"timestamp": "T", "level": "info", "event": "daemon ready", "doors": 3},
            "T info     daemon ready doors=3",
        ),
        (
            {
                "timestamp": "T",
                "level": "warning",
                "event": "\x1b]0;x\x07 hi\r",
                "model": "digits",
                "version": "1.0",
                "worker": 2,
                "source": "stderr",
            },
            "T warning  digits/1.0#2 \\x1b]0;x\\x07 hi\\r source=stderr",
        ),
        ({}, "- -"),
    ],
)
def test_a_log_record_is_one_safe_line(record: dict[str, Any], line: str) -> None:
    assert record_lines(record, PLAIN) == [line]


def test_a_traceback_in_the_log_stands_below_its_line() -> None:
    record = {"timestamp": "T", "level": "error", "event": "died", "exception": "a\nb\n"}
    assert record_lines(record, PLAIN) == ["T error    died", "    a", "    b"]
    assert "\x1b[31merror" in record_lines(record, COLOURED)[0]


def test_logs_asks_for_what_the_operator_wants_to_see() -> None:
    everything = logs_request(parse(["logs"]))
    assert everything.target == "/tsd/logs?lines=100"
    assert everything.timeout_s
    following = logs_request(parse(["logs", "digits", "-n", "5", "-f", "--level", "error"]))
    assert following.target == "/tsd/logs?lines=5&model=digits&level=error&follow=true"
    assert following.timeout_s is None
