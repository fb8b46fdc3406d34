"""TorchServe's log files: its formats, bounded, rotated, and opened anew when asked."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec
import pytest

from tsd import log_files
from tsd.errors import StartupError
from tsd.log_files import LogFiles, worker_name
from tsd.settings import LogSettings, MetricsSettings

STAMP = r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d,\d{3}"


def log_settings(**settings: Any) -> LogSettings:
    return msgspec.structs.replace(LogSettings(), **settings)


def never(_seconds: float, _call: Callable[[], None]) -> None:
    """A clock that stands still: what is not much waits for the end."""


@contextmanager
def files(log: LogSettings, metrics: MetricsSettings | None = None) -> Iterator[LogFiles]:
    """Written when this ends."""
    subject = LogFiles(log, metrics or MetricsSettings(), never)
    subject.start()
    yield subject
    subject.stop()


def test_the_access_log_tells_who_asked_for_what(tmp_path: Path) -> None:
    with files(log_settings(folder=tmp_path / "made")) as subject:
        subject.access("127.0.0.1:4711", ("GET", b"/ping"), 200, 0.0031)
        subject.access("127.0.0.1:4711", ("GET", b"/a\nb"), 404, 0)
    lines = (tmp_path / "made" / "access_log.log").read_text().splitlines()
    assert re.fullmatch(rf'{STAMP} - /127\.0\.0\.1:4711 "GET /ping HTTP/1\.1" 200 3', lines[0])
    assert lines[1].endswith(r'"GET /a\nb HTTP/1.1" 404 0')
    assert len(lines) == 2


def test_what_models_print_goes_to_a_file_of_its_own(tmp_path: Path) -> None:
    worker = {"model": "m", "version": "1.0", "worker": 2}
    record = {"time": 0.5, "level": "info", "text": "hello"}
    failure = {"level": "critical", "text": "a\nb", "exception": "Traceback\n  x", "code": "c"}
    with files(log_settings(folder=tmp_path)) as subject:
        subject.record(record | worker | {"source": "stdout"})
        subject.record(record | worker | {"source": "stderr", "level": "warning"})
        subject.record(record | worker)
        subject.record(record | failure)
        raised = {"code": "handler_raised", "level": "error", "exception": "Traceback\nValueError"}
        subject.record(record | worker | raised | {"text": "handler raised"})
        subject.record(record | worker | {"source": "stdout", "level": "error", "text": "a\x1b"})
    models = (tmp_path / "model_log.log").read_text().splitlines()
    assert re.fullmatch(rf"{STAMP} \[INFO \] W-9001-m_1\.0-stdout MODEL_LOG - hello", models[0])
    assert "[WARN ] W-9001-m_1.0-stderr MODEL_LOG - hello" in models[1]
    # Each line as TorchServe has it; a level of the handler's own is in the journal only.
    assert [line.partition(" ")[2] for line in models[2:]] == [
        f"[INFO ] W-9001-m_1.0-stdout MODEL_LOG - {text}"
        for text in ("handler raised", "Traceback", "ValueError", "a\\x1b")
    ]
    daemon = (tmp_path / "ts_log.log").read_text().splitlines()
    assert re.fullmatch(
        rf"{STAMP} \[INFO \] main tsd - hello model=m version=1\.0 worker=2", daemon[0]
    )
    assert daemon[0].partition(",")[2].startswith("500 ")
    assert daemon[1].endswith("[ERROR] main tsd - a")
    assert daemon[2:] == ["b code=c", "Traceback", "  x"]


def test_metrics_have_a_folder_of_their_own(tmp_path: Path) -> None:
    with files(LogSettings(), MetricsSettings(folder=tmp_path)) as subject:
        assert subject.writer(log_files.ACCESS) is None
        subject.access("c", ("GET", b"/"), 200, 0)
        write = subject.writer(log_files.DAEMON_METRICS)
        assert write is not None
        write("Requests2XX.Count:1.0|#Level:Host|#hostname:h,timestamp:1")
        write("M.ms:1.0|#Level:a\x1b[31m\nforged")
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "model_metrics.log",
        "ts_metrics.log",
    ]
    text = (tmp_path / "ts_metrics.log").read_text()
    first, second = text.splitlines()
    assert re.fullmatch(rf"{STAMP} - Requests2XX\.Count:1\.0\|.*", first)
    assert second.endswith(r" - M.ms:1.0|#Level:a\x1b[31m\nforged")


def test_without_folders_there_are_no_files_and_no_thread() -> None:
    with files(LogSettings()) as subject:
        subject.access("c", ("GET", b"/"), 200, 0)
    assert subject.dropped == 0


def test_a_large_file_is_rotated_and_few_are_kept(tmp_path: Path) -> None:
    for number in range(5):
        with files(log_settings(folder=tmp_path, file_bytes=100, kept_files=2)) as subject:
            subject.access("c", ("GET", b"/%d%b" % (number, b"x" * 60)), 200, 0)
    names = sorted(path.name for path in tmp_path.glob("access*"))
    assert names == ["access_log.log", "access_log.log.1", "access_log.log.2"]
    texts = [(tmp_path / name).read_text() for name in names]
    assert [text.partition("GET /")[2][0] for text in texts] == ["4", "3", "2"]


def test_files_that_were_moved_are_made_anew(tmp_path: Path) -> None:
    path = tmp_path / "access_log.log"
    with files(log_settings(folder=tmp_path)) as subject:
        path.rename(tmp_path / "moved")
        subject.reopen()
        subject.access("c", ("GET", b"/second"), 200, 0)
    assert "second" in path.read_text()


def test_lines_that_cannot_be_written_are_counted(tmp_path: Path) -> None:
    with files(log_settings(folder=tmp_path / "a")) as subject:
        (tmp_path / "a" / "access_log.log").unlink()
        (tmp_path / "a" / "access_log.log").mkdir()
        subject.access("c", ("GET", b"/"), 200, 0)
    assert subject.dropped == 1


def test_lines_that_come_too_fast_are_counted(tmp_path: Path) -> None:
    subject = LogFiles(log_settings(folder=tmp_path), MetricsSettings(), never)
    for _ in range(2 * log_files.MAX_WAITING):
        subject.access("c", ("GET", b"/"), 200, 0)
    assert 0 < subject.dropped <= log_files.MAX_WAITING
    for _ in range(log_files.MAX_WAITING):
        subject.record({"time": 0.0, "level": "info", "text": "x"})
    dropped = subject.dropped
    subject.record({"time": 0.0, "level": "info", "text": "one too many"})
    assert subject.dropped == dropped + 1


def test_answers_are_written_soon_without_being_many(tmp_path: Path) -> None:
    timers: list[Callable[[], None]] = []
    subject = LogFiles(
        log_settings(folder=tmp_path), MetricsSettings(), lambda _seconds, call: timers.append(call)
    )
    subject.start()
    for number in range(3):
        subject.access("c", ("GET", b"/%d" % number), 200, 0)
    assert len(timers) == 1
    timers[0]()
    subject.access("c", ("GET", b"/3"), 200, 0)
    assert len(timers) == 2
    subject.stop()
    assert len((tmp_path / "access_log.log").read_text().splitlines()) == 4


def test_a_folder_that_cannot_be_made_is_an_error_at_the_start(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    subject = LogFiles(log_settings(folder=tmp_path / "file"), MetricsSettings())
    with pytest.raises(StartupError, match="cannot write"):
        subject.start()


def test_workers_have_torchserves_names() -> None:
    assert worker_name(1, "m", "2.0") == "W-9000-m_2.0"


def test_printed_lines_that_wait_leave_room_for_answers(tmp_path: Path) -> None:
    subject = LogFiles(log_settings(folder=tmp_path), MetricsSettings(), never)
    for _ in range(1_000):
        subject.record({"time": 0.0, "level": "info", "text": "x"})
    for _ in range(2 * log_files.ACCESSES_AT_ONCE):
        subject.access("c", ("GET", b"/"), 200, 0)
    subject.start()
    subject.stop()
    assert subject.dropped == 0
    lines = (tmp_path / "access_log.log").read_text().splitlines()
    assert len(lines) == 2 * log_files.ACCESSES_AT_ONCE
