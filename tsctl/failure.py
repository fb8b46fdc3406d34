"""What can go wrong for the operator, and the exit status each kind has.

Every failure says what, why and what to do about it; console.py prints it. The table of statuses
is the one that the man page documents."""

from __future__ import annotations

import enum
import json
from typing import Any

Json = dict[str, Any]


class Status(enum.IntEnum):
    """The exit statuses of tsctl."""

    DONE = 0
    FAILED = 1
    USAGE = 2
    REJECTED = 3
    NOT_FOUND = 4
    CANNOT_SERVE = 5
    UNREACHABLE = 6
    NOT_PERMITTED = 7
    INTERRUPTED = 130
    BROKEN_PIPE = 141


# What to do when the daemon gives no advice of its own.
ADVICE = {
    Status.FAILED: "try again; `tsctl logs` shows what the daemon did",
    Status.REJECTED: "see `tsctl COMMAND --help` and `man tsctl`",
    Status.NOT_FOUND: "`tsctl list` shows the models and their versions",
    Status.CANNOT_SERVE: "`tsctl describe MODEL` and `tsctl logs MODEL` show the cause",
    Status.UNREACHABLE: "see `systemctl status tsd`, or name the daemon's socket with --socket",
    Status.NOT_PERMITTED: "run it as root or as a user whom the daemon's configuration lets do it",
}


class Failure(Exception):
    """The command cannot be done: what, why, fix, and the exit status."""

    def __init__(self, status: Status, what: str, why: str = "", fix: str = "") -> None:
        super().__init__(what)
        self.status = status
        self.what = what
        self.why = why or "no reason was given"
        self.fix = fix or ADVICE.get(status, ADVICE[Status.FAILED])
        self.traceback = ""
        self.answer: Json = {}


def exit_status(http_status: int) -> Status:
    """The exit status that stands for an HTTP status which is no success."""
    if http_status in (401, 403):
        return Status.NOT_PERMITTED
    if http_status == 404:
        return Status.NOT_FOUND
    if 400 <= http_status < 500:
        return Status.REJECTED
    return Status.CANNOT_SERVE if http_status >= 500 else Status.FAILED


def from_error(error: Json, http_status: int) -> Failure:
    """The failure that the daemon's own error object describes."""
    failure = Failure(
        exit_status(http_status),
        str(error.get("message") or f"the daemon answered HTTP {http_status}"),
        str(error.get("why") or f"{error.get('type', 'no type')}, HTTP {http_status}"),
        str(error.get("fix") or ""),
    )
    failure.traceback = str(error.get("traceback") or "")
    failure.answer = error
    return failure


def from_answer(http_status: int, body: bytes) -> Failure:
    """The failure in an ordinary answer; its body is an error object, or anything at all."""
    try:
        error = json.loads(body)
    except ValueError:
        error = None
    if isinstance(error, dict):
        return from_error(error, http_status)
    return from_error({"type": body[:200].decode("utf-8", "replace").strip()}, http_status)
