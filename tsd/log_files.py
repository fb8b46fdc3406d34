"""TorchServe's log files: who asked for what, what the daemon and the models said, what was
measured.

A thread writes them, so that a slow disk costs lines and never time; each is rotated when it is
large, and opened anew when `reopen` is called after something else has moved it."""

from __future__ import annotations

import asyncio
import contextlib
import queue
import threading
import time
from collections.abc import Callable, Sequence
from functools import lru_cache, partial
from pathlib import Path
from typing import BinaryIO, Final, NamedTuple

from tsd.errors import StartupError
from tsd.log import Record, escaped
from tsd.settings import LogSettings, MetricsSettings

ACCESS: Final = "access_log.log"
DAEMON: Final = "ts_log.log"
MODELS: Final = "model_log.log"
MODEL_METRICS: Final = "model_metrics.log"
DAEMON_METRICS: Final = "ts_metrics.log"

MAX_WAITING = 10_000
MAX_AT_ONCE = 1_000
# Answers are many: the thread is told of so many at once, or of those that came in so long.
ACCESSES_AT_ONCE = 256
ACCESSES_S = 0.1
STOP_S = 5.0
FIRST_WORKER_ID = 9000
"""TorchServe's first worker listens on this port, and it is in names that dashboards know."""
# TorchServe's workers print what their handlers raise; tsd's tell the daemon.
SOURCES_BY_CODE = {"handler_raised": "stdout"}
PRINTED_LEVELS = {"stdout": "INFO", "stderr": "WARN"}
LEVELS = {"debug": "DEBUG", "info": "INFO", "warning": "WARN", "error": "ERROR"}
KNOWN_FIELDS = {"time", "level", "text", "exception", "source"}


Asked = tuple[str, bytes]
"""Method and target of a request, as they came."""

Access = tuple[float, str, Asked, int, float]
"""When, by whom, what was asked, the status, how long it took: one is made for each answer."""


CallLater = Callable[[float, Callable[[], None]], object]


def worker_name(number: int, model: str, version: str) -> str:
    """How TorchServe's logs and metrics call a worker."""
    return f"W-{FIRST_WORKER_ID + number - 1}-{model}_{version}"


class LogFiles:
    """From `start` to `stop`; a file whose folder is not configured is none."""

    def __init__(
        self, log: LogSettings, metrics: MetricsSettings, call_later: CallLater | None = None
    ) -> None:
        """`call_later`: the running loop's, unless told otherwise."""
        folders = dict.fromkeys((ACCESS, DAEMON, MODELS), log.folder)
        folders |= dict.fromkeys((MODEL_METRICS, DAEMON_METRICS), metrics.folder)
        self._paths = {name: folder / name for name, folder in folders.items() if folder}
        self._settings = log
        # Lines that could not be written, or not soon enough.
        self.dropped = 0
        self._waiting: queue.Queue[_Lines | None] = queue.Queue(MAX_WAITING)
        self._accesses: list[Access] = []
        self._call_later = call_later or _call_later
        # How many were handed to the thread, and how many it has taken: each has one writer.
        self._given = self._taken = 0
        self._is_timed = False
        self._are_moved = threading.Event()
        self._thread = threading.Thread(target=self._run, name="tsd log files", daemon=True)

    def start(self) -> None:
        """Make the folders and begin; StartupError where that cannot be done."""
        for path in self._paths.values():
            try:
                path.parent.mkdir(parents=True, exist_ok=True)
                path.open("a").close()
            except OSError as error:
                raise StartupError(
                    f"cannot write {path}",
                    why=error.strerror or str(error),
                    fix="choose another log.folder or metrics.folder",
                ) from error
        if self._paths:
            self._thread.start()

    def reopen(self) -> None:
        """Something has moved the files: write to new ones."""
        self._are_moved.set()

    def stop(self) -> None:
        """Write what waits, for a few seconds at most."""
        self._hand_over()
        if self._thread.is_alive():
            with contextlib.suppress(queue.Full):
                self._waiting.put(None, timeout=STOP_S)
            self._thread.join(STOP_S)

    def writer(self, name: str) -> Callable[[str], None] | None:
        """What takes the lines of one file; None: there is no such file."""
        return (lambda text: self._put(name, f"- {escaped(text)}")) if name in self._paths else None

    def access(self, client: str, asked: Asked, status: int, took_s: float) -> None:
        """Somebody has been answered. The thread is told of several at once: to wake it for each
        costs several times as much as all the rest."""
        if ACCESS not in self._paths:
            return
        self._accesses.append((time.time(), client, asked, status, took_s))
        if len(self._accesses) >= ACCESSES_AT_ONCE:
            self._hand_over()
        elif not self._is_timed:
            self._is_timed = True
            self._call_later(ACCESSES_S, self._on_timer)

    def _on_timer(self) -> None:
        self._is_timed = False
        self._hand_over()

    def _hand_over(self) -> None:
        accesses, self._accesses = self._accesses, []
        if not accesses:
            return
        try:
            if self._given - self._taken + len(accesses) > MAX_WAITING:
                raise queue.Full
            text = partial(_access_lines, accesses)
            self._waiting.put_nowait(_Lines(ACCESS, len(accesses), text))
            self._given += len(accesses)
        except queue.Full:
            self.dropped += len(accesses)

    def record(self, record: Record) -> None:
        """A record of the log: what a worker printed goes to a file of its own."""
        source = record.get("source") or SOURCES_BY_CODE.get(str(record.get("code")))
        if "worker" in record and source in PRINTED_LEVELS:
            name = worker_name(record["worker"], record["model"], record["version"])
            # The thread says what the other fields would, and the stream is the level.
            head = f"[{PRINTED_LEVELS[source]:5}] {name}-{source} MODEL_LOG"
            for line in _lines(str(record["text"]), record):
                self._put(MODELS, f"{head} - {line}", record["time"])
        else:
            level = LEVELS.get(record["level"], "ERROR")
            text = "\n".join(_text_lines(record))
            self._put(DAEMON, f"[{level:5}] main tsd - {text}", record["time"])

    def _put(self, name: str, text: str, at: float | None = None) -> None:
        if name in self._paths:
            try:
                line = partial(_line, time.time() if at is None else at, text)
                self._waiting.put_nowait(_Lines(name, 1, line))
            except queue.Full:
                self.dropped += 1

    def _run(self) -> None:
        files = {name: _File(path, self._settings) for name, path in self._paths.items()}
        ends = False
        while not ends:
            taken, ends = self._next_lines()
            self._taken += sum(lines.many for lines in taken if lines.name == ACCESS)
            if self._are_moved.is_set():
                self._are_moved.clear()
                for file in files.values():
                    file.close()
            for name, file in files.items():
                mine = [lines for lines in taken if lines.name == name]
                text = "".join(lines.text() for lines in mine)
                if mine and not file.write(text.encode(errors="backslashreplace")):
                    self.dropped += sum(lines.many for lines in mine)
        for file in files.values():
            file.close()

    def _next_lines(self) -> tuple[list[_Lines], bool]:
        """Waits for lines and takes what has come with them; and whether they were the last."""
        taken: list[_Lines] = []
        lines = self._waiting.get()
        while lines is not None:
            taken.append(lines)
            if len(taken) >= MAX_AT_ONCE or self._waiting.empty():
                return taken, False
            lines = self._waiting.get()
        return taken, True


class _Lines(NamedTuple):
    """Lines for one file; the thread makes their text."""

    name: str
    many: int
    text: Callable[[], str]


def _call_later(seconds: float, call: Callable[[], None]) -> None:
    asyncio.get_running_loop().call_later(seconds, call)


def _line(at: float, text: str) -> str:
    return f"{_stamp(int(at))},{int(at % 1 * 1000):03} {text}\n"


def _access_lines(accesses: Sequence[Access]) -> str:
    # In one function: there are many.
    return "".join(
        [
            f"{_stamp(int(at))},{int(at % 1 * 1000):03} - /{client} "
            f'"{_request_line(asked)}" {status} {round(took_s * 1000)}\n'
            for at, client, asked, status, took_s in accesses
        ]
    )


@lru_cache(maxsize=8)
def _stamp(second: int) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.localtime(second))


@lru_cache(maxsize=256)
def _request_line(asked: Asked) -> str:
    return escaped(f"{asked[0]} {asked[1].decode('latin-1')} HTTP/1.1")


class _File:
    """One file, opened when there is something to write."""

    def __init__(self, path: Path, settings: LogSettings) -> None:
        self._path = path
        self._settings = settings
        self._file: BinaryIO | None = None

    def write(self, data: bytes) -> bool:
        """Append, after a rotation if need be; whether that worked."""
        try:
            file = self._opened()
            if file.tell() and file.tell() + len(data) > self._settings.file_bytes:
                self._rotate()
                file = self._opened()
            file.write(data)
        except OSError:
            self.close()
            return False
        return True

    def close(self) -> None:
        """It is opened again by the next line."""
        if self._file is not None:
            self._file.close()
            self._file = None

    def _opened(self) -> BinaryIO:
        if self._file is None:
            self._file = self._path.open("ab", buffering=0)
        return self._file

    def _rotate(self) -> None:
        self.close()
        for number in range(self._settings.kept_files, 0, -1):
            newer = self._numbered(number - 1) if number > 1 else self._path
            if newer.exists():
                newer.replace(self._numbered(number))

    def _numbered(self, number: int) -> Path:
        return self._path.with_name(f"{self._path.name}.{number}")


def _text_lines(record: Record) -> list[str]:
    """The record's text and its other fields; a traceback below it."""
    fields = [f"{key}={value}" for key, value in record.items() if key not in KNOWN_FIELDS]
    return _lines(" ".join([str(record["text"]), *fields]), record)


def _lines(text: str, record: Record) -> list[str]:
    exception = record.get("exception")
    whole = f"{text}\n{exception}" if exception else text
    return [escaped(line) for line in whole.split("\n")]
