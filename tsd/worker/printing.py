"""What a handler prints and logs, on its way to the daemon's log: each line says what it is about.

A worker's streams are ordinary text streams to a handler, which may write to them, to their
buffers and their descriptors, or give them to its own logging. What it writes there line by line
is marked here; how, is in ipc/lines.py. A batch has the process to itself, so its requests are
known to all threads; calls that overlap know each their own."""

from __future__ import annotations

import io
import logging
import re
import sys
import threading
from collections.abc import Callable, Sequence
from contextvars import ContextVar

from tsd.ipc.lines import LEVELS, pack_line

MAX_PENDING_CHARACTERS = 65_536
"""Of a line whose end does not come; the daemon cuts it much earlier."""
# A traceback is one record: its first line, what is set in below it, and what was raised.
TRACEBACK = r"Traceback \(most recent call last\):\n"
RECORD = re.compile(rf"{TRACEBACK}(?: .*\n)*(?! ).*\n|(?!{TRACEBACK}).*\n")

_of_call: ContextVar[Sequence[str]] = ContextVar("requests of a call", default=())


class _Batch:
    """The requests of the batch that runs."""

    # Asked for only when something is printed.
    find_ids: Callable[[], Sequence[str]] = tuple


def about_batch(find_ids: Callable[[], Sequence[str]]) -> None:
    """From here on, and in every thread, lines are about these requests; none: about none."""
    _Batch.find_ids = staticmethod(find_ids)


def about_call(request_id: str) -> None:
    """In this coroutine, and in what it starts, lines are about this request."""
    _of_call.set((request_id,))


class MarkedStream(io.TextIOWrapper):
    """Standard output or standard error: whole lines leave, however they were written.

    Threads do not mix their lines: what one has begun waits for its end, or for `finish`."""

    def __init__(self, descriptor: int) -> None:
        raw = io.FileIO(descriptor, "w", closefd=False)
        super().__init__(io.BufferedWriter(raw), "utf-8", "backslashreplace", line_buffering=True)
        self._begun = threading.local()

    def write(self, text: str, /) -> int:
        """As of every text stream."""
        whole = getattr(self._begun, "text", "") + text
        # A line is mostly written in two pieces, the second of which is its end.
        *records, rest = split_records(whole) if "\n" in text else [whole]
        self._begun.text = rest[:MAX_PENDING_CHARACTERS]
        if records:
            super().write("".join(pack_line(record, _request_ids()) for record in records))
        return len(text)

    def write_record(self, text: str, level: str, logger: str) -> None:
        """One record of `logging`, between the lines that are printed."""
        super().write(pack_line(text, _request_ids(), level, logger))

    def finish(self) -> None:
        """What was begun in this thread is a line, too: for the end of the process."""
        text, self._begun.text = getattr(self._begun, "text", ""), ""
        if text:
            super().write(pack_line(text.removesuffix("\n"), _request_ids()))
        self.flush()


class RecordHandler(logging.StreamHandler[MarkedStream]):
    """The root logger's: levels and loggers' names reach the daemon's log as they are."""

    def __init__(self, stream: MarkedStream, max_bytes: int) -> None:
        super().__init__(stream)
        self._max_characters = max_bytes

    def emit(self, record: logging.LogRecord) -> None:
        """As of every handler: an error of its own costs the record only."""
        try:
            text = shortened(self.format(record), self._max_characters)
            self.stream.write_record(text, level_of(record.levelno), record.name)
        except Exception:  # noqa: BLE001 (what was to be logged may raise anything)
            self.handleError(record)


def take_over(level: str, max_bytes: int) -> None:
    """From here on what this process prints and logs is marked. Its descriptors 1 and 2 are set.

    `level`: of the daemon's log; `max_bytes`: where the daemon cuts a line."""
    sys.stdout = sys.__stdout__ = output = MarkedStream(1)  # type: ignore[misc]  # it is final
    sys.stderr = sys.__stderr__ = MarkedStream(2)  # type: ignore[misc]  # it is final
    handler: logging.Handler = RecordHandler(output, max_bytes)
    logging.basicConfig(handlers=[handler], format="%(message)s", force=True)
    root = logging.getLogger()
    # To set it changes every logger there is, whose memory is then no longer shared.
    if root.level != logging.getLevelName(level.upper()):
        root.setLevel(level.upper())


def finish() -> None:
    """The last words before the process ends, wherever the handler has put its streams."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, MarkedStream):
            stream.finish()
        else:
            stream.flush()


def split_records(text: str) -> list[str]:
    """The complete lines of a text, without their ends, a traceback as one of them; what is begun
    comes last, and may be empty."""
    records: list[str] = []
    at = 0
    while found := RECORD.match(text, at):
        records.append(found[0][:-1])
        at = found.end()
    return [*records, text[at:]]


def level_of(number: int) -> str:
    """The daemon's name for a level of `logging`, which may have any number."""
    return LEVELS[min(max(number // 10 - 1, 0), len(LEVELS) - 1)]


def shortened(text: str, limit: int) -> str:
    """A text that the daemon does not cut: where it is too long, its middle is left out."""
    if len(text) <= limit:
        return text
    half = (limit - 3) // 2
    return f"{text[:half]}[…]{text[len(text) - half :]}"


def _request_ids() -> Sequence[str]:
    return _of_call.get() or _Batch.find_ids()
