"""The daemon's log: one record at a time, to the journal, a terminal, a file or a pipe.

Whoever logs says what happened and about which model, version, worker or request; how that looks
as text, and where it goes, is decided here; the journal's own form is in journal.py. A slow or
absent reader costs records, never time. The newest records are kept for `tsctl logs`."""

from __future__ import annotations

import errno
import json
import logging
import os
import select
import stat
import sys
import time
from collections import deque
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any, Protocol, TextIO, cast

# structlog would draw tracebacks with rich where that is installed: an import of 60 ms, a fifth of
# a start, for what is never used here.
_hides_rich = "rich" not in sys.modules
if _hides_rich:
    sys.modules["rich"] = None  # type: ignore[assignment]  # what stands so cannot be imported

import structlog  # noqa: E402

if _hides_rich:
    del sys.modules["rich"]

LEVELS = {"debug": 10, "info": 20, "warning": 30, "error": 40, "critical": 50}
COLOURS = {"debug": "2", "info": "32", "warning": "33", "error": "31", "critical": "1;31"}
KEPT_CHARACTERS = 8_192
"""How much of one value the ring keeps."""

PIECE_CHARACTERS = select.PIPE_BUF // 4 - 1
"""What fits, however it is encoded, where the kernel says that something does."""

Record = dict[str, Any]
"""`time` (seconds since 1970), `level`, `text`, and whatever else the line is about."""


class Settings(Protocol):
    """What the log wants to know: config.LogSettings fits."""

    @property
    def level(self) -> str: ...
    @property
    def format(self) -> str: ...
    @property
    def kept_records(self) -> int: ...


class Journal(Protocol):
    """The way to the journal: journal.JournalSocket fits."""

    def write(self, record: Mapping[str, Any], /) -> None: ...


class Log:
    """Where records go: made by `start`, asked for the newest ones, told a new level."""

    def __init__(self, level: str, ring: LogRing, write: Callable[[Record], None]) -> None:
        self.ring = ring
        self.dropped = 0
        self._lowest = LEVELS[level]
        self._write = write

    def set_level(self, level: str) -> None:
        """From now on, in every logger there is."""
        self._lowest = LEVELS[level]
        logging.getLogger().setLevel(self._lowest)

    def wants(self, level: str) -> bool:
        """Whether a record of that level is looked at."""
        return LEVELS.get(level, 0) >= self._lowest

    def put(self, record: Record) -> None:
        """Keep the record and send it on; a record that cannot be sent is counted."""
        self.ring.add(record)
        try:
            self._write(record)
        except (OSError, ValueError):  # the latter: the stream was closed
            self.dropped += 1

    # structlog calls the method that is named after the level.
    debug = info = warning = error = critical = put


class LogRing:
    """The newest records, and those who want to see more as they come."""

    def __init__(self, size: int) -> None:
        self._records: deque[Record] = deque(maxlen=size)
        self._subscribers: list[Callable[[Record], None]] = []

    def add(self, record: Record) -> None:
        """Forgets the oldest one if need be. Values become what JSON can carry."""
        kept = {key: _kept(value) for key, value in record.items()}
        self._records.append(kept)
        for tell in tuple(self._subscribers):
            tell(kept)

    def records(self, lines: int, model: str | None = None, level: str = "debug") -> list[Record]:
        """The newest `lines` records, oldest first, of that model and at least that level."""
        lowest = LEVELS[level]
        chosen: deque[Record] = deque(maxlen=lines)
        for record in self._records:
            if model in (None, record.get("model")) and LEVELS[record["level"]] >= lowest:
                chosen.append(record)
        return list(chosen)

    def subscribe(self, callback: Callable[[Record], None]) -> Callable[[], None]:
        """Call back with every new record, on the logging thread, until the result is called."""
        self._subscribers.append(callback)
        return lambda: self._subscribers.remove(callback)


def start(settings: Settings, journal: Journal | None, stream: TextIO) -> Log:
    """From here on every logger, structlog's or the standard library's, writes to this one log."""
    write = journal.write if journal else _stream_writer(settings.format, stream)
    log = Log(settings.level, LogRing(settings.kept_records), write)
    structlog.configure(
        processors=[_drop_below_level, structlog.processors.format_exc_info, _as_record],
        wrapper_class=structlog.make_filtering_bound_logger(logging.NOTSET),
        logger_factory=lambda *_: log,
        cache_logger_on_first_use=False,
    )
    logging.basicConfig(handlers=[_LibraryHandler(log)], level=LEVELS[settings.level], force=True)
    return log


def get_logger() -> structlog.typing.FilteringBoundLogger:
    """A logger to call and to `bind` fields to; it may be had before the log is started."""
    return cast(structlog.typing.FilteringBoundLogger, structlog.get_logger())


def text_line(record: Mapping[str, Any], *, has_colour: bool = False) -> str:
    """One line for people, a traceback indented below it; no value can break out of its place."""
    when = datetime.fromtimestamp(record["time"]).astimezone()
    level = f"{record['level']:8}"
    if has_colour:
        level = f"\x1b[{COLOURS.get(record['level'], '0')}m{level}\x1b[0m"
        stamp = when.strftime("%H:%M:%S.%f")[:-3]
    else:
        stamp = when.isoformat(timespec="milliseconds")
    fields = [
        f"{escaped(key)}={_quoted(value)}"
        for key, value in record.items()
        if key not in ("time", "level", "text", "exception") and value is not None
    ]
    line = " ".join([stamp, level, escaped(str(record["text"])), *fields])
    below = str(record.get("exception", "")).split("\n") if record.get("exception") else []
    return "\n".join([line, *("    " + escaped(each) for each in below)])


def escaped(text: str) -> str:
    """The text with everything that could move a cursor, or hide something, spelled out."""
    if text.isprintable():
        return text
    spelled = (c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)
    return "".join(spelled)


def _drop_below_level(log: Any, name: str, fields: structlog.typing.EventDict) -> Record:
    if not log.wants(name):
        raise structlog.DropEvent
    return cast(Record, fields)


def _as_record(
    _log: Any, name: str, fields: structlog.typing.EventDict
) -> tuple[tuple[Record], dict[str, Any]]:
    """What structlog then gives to the method of `Log` that has the level's name."""
    own = {"time": time.time(), "level": name, "text": str(fields.pop("event"))}
    return ((own | dict(fields) | own,), {})


class _LibraryHandler(logging.Handler):
    """The way into the log for libraries that use the standard library's logging."""

    def __init__(self, log: Log) -> None:
        super().__init__()
        self._log = log

    def emit(self, record: logging.LogRecord) -> None:
        reached = [name for name, number in LEVELS.items() if number <= record.levelno]
        line: Record = {
            "time": record.created,
            "level": reached[-1] if reached else "debug",
            "text": record.getMessage(),
            "logger": record.name,
        }
        if record.exc_info:
            line["exception"] = logging.Formatter().formatException(record.exc_info)
        self._log.put(line)


def _stream_writer(chosen: str, stream: TextIO) -> Callable[[Record], None]:
    """Writes lines of the chosen format, whole ones while there is room."""
    has_colour = chosen == "console" or (chosen == "auto" and stream.isatty())
    has_room = _room_check(stream)
    # Of the line before, where its reader stopped in the middle of it.
    missing_end = ""

    def write(record: Record) -> None:
        nonlocal missing_end
        line = _json_line(record) if chosen == "json" else text_line(record, has_colour=has_colour)
        # What the stream's encoding lacks is spelled out as well.
        encoding = stream.encoding or "utf-8"
        said = line.encode(encoding, "backslashreplace").decode(encoding) + "\n"
        for at in range(0, len(said), PIECE_CHARACTERS):
            if not has_room():
                raise BlockingIOError(errno.EAGAIN, "nobody reads the log")
            piece = said[at : at + PIECE_CHARACTERS]
            stream.write(missing_end + piece)
            stream.flush()
            missing_end = "" if piece.endswith("\n") else "\n"

    return write


def _room_check(stream: TextIO) -> Callable[[], bool]:
    """Whether a piece can be written without waiting: a pipe that nobody reads fills up."""
    try:
        descriptor = stream.fileno()
        is_regular = stat.S_ISREG(os.fstat(descriptor).st_mode)
    except (OSError, ValueError):
        return lambda: True
    if is_regular:
        return lambda: True
    poll = select.poll()
    poll.register(descriptor, select.POLLOUT)
    return lambda: bool(poll.poll(0))


def _json_line(record: Record) -> str:
    when = datetime.fromtimestamp(record["time"], UTC).isoformat(timespec="microseconds")
    return json.dumps({**record, "time": when}, default=str)


def _quoted(value: object) -> str:
    """A value of a text line, in quotes where it would not read as one word."""
    text = escaped(str(value))
    if text and not any(c in text for c in ' "='):
        return text
    return '"' + escaped(str(value).replace("\\", "\\\\").replace('"', '\\"')) + '"'


def _kept(value: object) -> object:
    """What the ring keeps of a value: bounded, and fit for JSON."""
    if value is None or isinstance(value, bool | int | float):
        return value
    text = value.decode("utf-8", "backslashreplace") if isinstance(value, bytes) else str(value)
    if len(text) > KEPT_CHARACTERS:
        text = text[:KEPT_CHARACTERS] + "…"
    return text.encode("utf-8", "backslashreplace").decode()
