"""tsctl logs: the daemon's latest log records, and the new ones as they are written."""

from __future__ import annotations

from argparse import Namespace

from tsctl.client import ANSWER_TIMEOUT_S, Client, Request, target
from tsctl.console import Console
from tsctl.failure import Json
from tsctl.format import block, cell, escape

LEVEL_COLOURS = {"debug": "dim", "warning": "yellow", "error": "red", "critical": "red"}

# What stands at its own place in the line; the rest follows as NAME=VALUE.
PLACED = {"timestamp", "level", "event", "model", "version", "worker", "exception"}


def run(arguments: Namespace, client: Client, console: Console) -> None:
    with client.ask(logs_request(arguments)) as answer:
        for record in answer.records():
            if console.is_json:
                console.show_json(record)
            else:
                console.show(record_lines(record, console))
            if arguments.follow:
                console.output.flush()


def logs_request(arguments: Namespace) -> Request:
    path = target(
        *("tsd", "logs"),
        lines=arguments.lines,
        model=arguments.model,
        level=arguments.level,
        follow=True if arguments.follow else None,
    )
    return Request("GET", path, timeout_s=None if arguments.follow else ANSWER_TIMEOUT_S)


def record_lines(record: Json, console: Console) -> list[str]:
    """Time, level, model/version#worker, text, then the other fields; a traceback below."""
    level = str(record.get("level") or "-")
    words = [
        cell(record.get("timestamp")),
        console.colour(f"{escape(level):<8}", LEVEL_COLOURS.get(level)),
        place(record),
        escape(str(record.get("event") or "")),
        *(f"{escape(name)}={cell(v)}" for name, v in record.items() if name not in PLACED),
    ]
    traceback = str(record.get("exception") or "")
    line = " ".join(word for word in words if word).rstrip()
    return [line, *(block(traceback) if traceback else [])]


def place(record: Json) -> str:
    """`model/version#worker`, as much of it as the record names."""
    marks = {"model": "", "version": "/", "worker": "#"}
    return "".join(mark + cell(record[n]) for n, mark in marks.items() if record.get(n) is not None)
