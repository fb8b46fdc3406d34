"""The daemon's log: one record at a time, to the journal, a terminal, a file or a pipe.

Whoever logs says what happened and about which model, version, worker or request; how that looks
and where it goes is decided here. A slow or absent reader costs records, never time. The newest
records are kept for `tsctl logs`."""

from __future__ import annotations

import array
import errno
import fcntl
import json
import logging
import os
import select
import socket
import stat
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any, Protocol, TextIO, cast

import structlog

JOURNAL_PATH = "/run/systemd/journal/socket"
LEVELS = {"debug": 10, "info": 20, "warning": 30, "error": 40, "critical": 50}
PRIORITIES = {"debug": 7, "info": 6, "warning": 4, "error": 3, "critical": 2}
COLOURS = {"debug": "2", "info": "32", "warning": "33", "error": "31", "critical": "1;31"}
SEALS = fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_WRITE | fcntl.F_SEAL_SEAL
KEPT_CHARACTERS = 8_192
"""How much of one value the ring keeps."""
FIELD_CHARACTERS = 64
"""journald ignores longer field names."""

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


class DatagramSocket(Protocol):
    """The part of a socket that the journal needs."""

    def sendmsg(
        self,
        buffers: Iterable[bytes],
        ancdata: Iterable[tuple[int, int, Any]],
        flags: int,
        address: str,
        /,
    ) -> int: ...

    def close(self) -> None: ...


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


class JournalSocket:
    """journald's native protocol: one datagram a record, or a sealed memory file."""

    def __init__(self, datagrams: DatagramSocket, path: str = JOURNAL_PATH) -> None:
        self._datagrams = datagrams
        self._path = path

    def write(self, record: Record) -> None:
        """Raises OSError when the journal does not take it at once."""
        datagram = journal_datagram(record)
        flags = socket.MSG_DONTWAIT | socket.MSG_NOSIGNAL
        try:
            self._datagrams.sendmsg([datagram], [], flags, self._path)
        except OSError as error:
            if error.errno not in (errno.EMSGSIZE, errno.ENOBUFS):
                raise
            with _sealed_file(datagram) as descriptor:
                rights = (socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [descriptor]))
                self._datagrams.sendmsg([b""], [rights], flags, self._path)

    def close(self) -> None:
        """Records that still come are counted as dropped."""
        self._datagrams.close()


def start(settings: Settings, journal: JournalSocket | None, stream: TextIO) -> Log:
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


def find_journal(chosen: str, stream: TextIO, journal_stream: str) -> JournalSocket | None:
    """The journal, if it was chosen, or if nothing was and `stream` already leads to it."""
    if chosen == "journal" or (chosen == "auto" and _leads_to(stream, journal_stream)):
        return JournalSocket(socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC))
    return None


def journal_datagram(record: Mapping[str, Any]) -> bytes:
    """The record's fields as journald reads them; a traceback follows the message's first line."""
    text = "\n".join(str(record[key]) for key in ("text", "exception") if record.get(key))
    fields = [
        _journal_field("MESSAGE", text),
        _journal_field("PRIORITY", PRIORITIES.get(record["level"], 6)),
        _journal_field("SYSLOG_IDENTIFIER", "tsd"),
    ]
    for key, value in record.items():
        if key not in ("time", "level", "text", "exception") and value is not None:
            fields.append(_journal_field(_field_name(key), value))
    return b"".join(fields)


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
    """Writes whole lines of the chosen format."""
    has_colour = chosen == "console" or (chosen == "auto" and stream.isatty())
    has_room = _room_check(stream)

    def write(record: Record) -> None:
        if not has_room():
            raise BlockingIOError(errno.EAGAIN, "nobody reads the log")
        line = _json_line(record) if chosen == "json" else text_line(record, has_colour=has_colour)
        # What the stream's encoding lacks is spelled out as well.
        encoding = stream.encoding or "utf-8"
        stream.write(line.encode(encoding, "backslashreplace").decode(encoding) + "\n")
        stream.flush()

    return write


def _room_check(stream: TextIO) -> Callable[[], bool]:
    """Whether a line can be written without waiting: a pipe that nobody reads fills up."""
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


def _leads_to(stream: TextIO, journal_stream: str) -> bool:
    """Whether the stream is the one that systemd connected to the journal."""
    try:
        found = os.fstat(stream.fileno())
    except (OSError, ValueError):  # no descriptor behind it
        return False
    return journal_stream == f"{found.st_dev}:{found.st_ino}"


def _field_name(key: str) -> str:
    """A journal field name for a record's key; `code` names what happened."""
    if key == "code":
        return "TSD_EVENT"
    name = "".join(c if c.isascii() and c.isalnum() else "_" for c in key.upper())
    return f"TSD_{name}"[:FIELD_CHARACTERS]


def _journal_field(name: str, value: object) -> bytes:
    """A value with line breaks is preceded by its length, so it cannot start a field of its own."""
    content = value if isinstance(value, bytes) else _bytes(str(value))
    if b"\n" not in content:
        return b"%s=%s\n" % (name.encode(), content)
    return b"%s\n%s%s\n" % (name.encode(), len(content).to_bytes(8, "little"), content)


def _bytes(text: str) -> bytes:
    """The bytes that were decoded to this text; what never was bytes is spelled out."""
    try:
        return text.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:
        return text.encode("utf-8", "backslashreplace")


@contextmanager
def _sealed_file(content: bytes) -> Iterator[int]:
    """A memory file that nobody can change any more, which is what journald asks for."""
    descriptor = os.memfd_create("tsd-log", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    try:
        with os.fdopen(descriptor, "wb", closefd=False) as file:
            file.write(content)
        fcntl.fcntl(descriptor, fcntl.F_ADD_SEALS, SEALS)
        yield descriptor
    finally:
        os.close(descriptor)


def _quoted(value: object) -> str:
    """A value of a text line, in quotes where it would not read as one word."""
    text = escaped(str(value))
    if text and not any(c in text for c in ' "='):
        return text
    return '"' + text.replace('"', '\\"') + '"'


def _kept(value: object) -> object:
    """What the ring keeps of a value: bounded, and fit for JSON."""
    if value is None or isinstance(value, bool | int | float):
        return value
    text = value.decode("utf-8", "backslashreplace") if isinstance(value, bytes) else str(value)
    if len(text) > KEPT_CHARACTERS:
        text = text[:KEPT_CHARACTERS] + "…"
    return text.encode("utf-8", "backslashreplace").decode()
