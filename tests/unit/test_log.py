"""The log: what a record looks like in each format, what is kept, and that it never blocks."""

from __future__ import annotations

import fcntl
import io
import json
import logging
import os
import threading
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import pytest
import structlog
from hypothesis import given
from hypothesis import strategies as st

from tsd import log
from tsd.journal import JournalSocket


@dataclass(frozen=True)
class Settings:
    level: str = "info"
    format: str = "text"
    kept_records: int = 5


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture(autouse=True)
def _restored() -> Iterator[None]:
    """structlog and the root logger are the whole process's: give them back."""
    root = logging.getLogger()
    before = root.level, root.handlers[:]
    yield
    structlog.reset_defaults()
    root.setLevel(before[0])
    root.handlers[:] = before[1]


def written(chosen: str = "text", stream: io.StringIO | None = None, **fields: Any) -> str:
    stream = stream or io.StringIO()
    log.start(Settings(format=chosen), None, stream)
    log.get_logger().info("it happened", **fields)
    return stream.getvalue()


def test_a_text_line_has_a_date_a_level_and_fields() -> None:
    line = written(model="digits", worker=3, code="worker_ready", nothing=None)
    stamp, _, rest = line.partition(" ")
    assert stamp.startswith("20")
    assert rest == "info     it happened model=digits worker=3 code=worker_ready\n"


def test_a_terminal_gets_colour_and_others_do_not() -> None:
    assert "\x1b[32m" in written("auto", Terminal())
    assert "\x1b" not in written("auto")
    assert "\x1b[32m" in written("console")


def test_json_is_one_object_a_line() -> None:
    line = written("json", note="a\nb\x1b", path=os.PathLike)
    record = json.loads(line)
    assert line.count("\n") == 1
    assert record["text"] == "it happened"
    assert record["note"] == "a\nb\x1b"
    assert record["time"].endswith("+00:00")


@pytest.mark.parametrize("hostile", ["\r", "\n2026 error", "\x1b[2J", "\x9b2J", "\u202e", "\udcff"])
def test_no_value_can_move_the_cursor_or_start_a_line(hostile: str) -> None:
    stream = io.StringIO()
    log.start(Settings(), None, stream)
    log.get_logger().error("text %s", hostile, **{"value": hostile, f"name{hostile}": 1})
    line = stream.getvalue()
    assert line.endswith("\n")
    assert line[:-1].isprintable()


@given(st.text(), st.text())
def test_any_text_stays_on_its_line(text: str, value: str) -> None:
    line = log.text_line({"time": 0.0, "level": "info", "text": text, "value": value})
    assert line.isprintable()


def test_values_that_are_not_one_word_are_quoted() -> None:
    assert written(a="", b="x y", c='"').endswith(' a="" b="x y" c="\\""\n')
    # None ends before its quote does.
    assert written(a='\\" code=ready b="').endswith(r' a="\\\" code=ready b=\""' + "\n")
    assert written(a="\\n\n ").endswith(r' a="\\n\n "' + "\n")


def test_a_traceback_stands_indented_below_its_line() -> None:
    stream = io.StringIO()
    log.start(Settings(), None, stream)
    try:
        raise ValueError("bad\x1b")
    except ValueError:
        log.get_logger().exception("it broke")
    first, *below = stream.getvalue().rstrip("\n").split("\n")
    assert first.endswith("error    it broke")
    assert below[0] == "    Traceback (most recent call last):"
    assert below[-1] == "    ValueError: bad\\x1b"


def test_what_the_stream_cannot_encode_is_spelled_out() -> None:
    raw = io.BytesIO()
    with io.TextIOWrapper(raw, encoding="ascii") as stream:
        log.start(Settings(), None, stream)
        log.get_logger().info("grün")
        assert raw.getvalue().endswith(b"gr\\xfcn\n")


def test_levels_below_the_set_one_are_dropped_until_it_changes() -> None:
    stream = io.StringIO()
    running = log.start(Settings(level="warning"), None, stream)
    bound = log.get_logger().bind(worker=1)
    bound.info("no")
    logging.getLogger("library").info("no")
    running.set_level("debug")
    bound.debug("yes")
    logging.getLogger("library").debug("yes")
    running.set_level("error")
    bound.warning("no")
    assert [record["text"] for record in running.ring.records(9)] == ["yes", "yes"]
    assert stream.getvalue().count("\n") == 2


def test_libraries_write_to_the_same_log() -> None:
    running = log.start(Settings(), None, io.StringIO())
    try:
        raise KeyError("x")
    except KeyError:
        logging.getLogger("asyncio").exception("%s slow", "loop")
    (record,) = running.ring.records(9)
    assert (record["text"], record["level"], record["logger"]) == ("loop slow", "error", "asyncio")
    assert record["exception"].endswith("KeyError: 'x'")


def test_a_field_cannot_replace_level_or_time() -> None:
    running = log.start(Settings(), None, io.StringIO())
    log.get_logger().info("text", level="none", time="never", text="other")
    (record,) = running.ring.records(9, level="info")
    assert (record["level"], record["text"]) == ("info", "text")
    assert isinstance(record["time"], float)


def test_f40_a_long_record_waits_for_no_reader_either() -> None:
    read_end, write_end = os.pipe()
    fcntl.fcntl(write_end, fcntl.F_SETPIPE_SZ, 8192)
    os.write(write_end, b"x" * 4096)
    with os.fdopen(read_end, "rb", buffering=0) as reader, os.fdopen(write_end, "w") as stream:
        # Only where the log waits, it is this that lets it go on.
        rescue = threading.Timer(2.0, reader.read, (8192,))
        rescue.start()
        running = log.start(Settings(), None, stream)
        log.get_logger().info("y" * 6000)
        rescue.cancel()
        assert running.dropped == 1
        assert reader.read(8192).endswith(b"y")
        log.get_logger().info("read on")
        began, line = reader.read(8192).split(b"\n", 1)
    assert (began, running.dropped) == (b"", 1)
    assert line.endswith(b"read on\n")


def test_a_stream_that_fails_costs_the_record_only() -> None:
    stream = io.StringIO()
    running = log.start(Settings(), None, stream)
    stream.close()
    log.get_logger().info("lost")
    assert running.dropped == 1
    assert len(running.ring.records(9)) == 1


class Journal:
    """Stands where the journal stands; the first record cannot be sent."""

    def __init__(self) -> None:
        self.records: list[Mapping[str, Any]] = []
        self.is_away = True

    def write(self, record: Mapping[str, Any], /) -> None:
        if self.is_away:
            self.is_away = False
            raise FileNotFoundError
        self.records.append(record)


def test_f40_a_journal_that_is_away_costs_the_record_only_and_is_found_again() -> None:
    journal, stream = Journal(), io.StringIO()
    running = log.start(Settings(), journal, stream)
    log.get_logger().info("lost")
    assert running.dropped == 1
    log.get_logger().bind(model="m").warning("sent", code="worker_died")
    (record,) = journal.records
    assert (record["text"], record["level"], record["model"]) == ("sent", "warning", "m")
    assert running.dropped == 1
    assert [kept["text"] for kept in running.ring.records(9)] == ["lost", "sent"]
    assert stream.getvalue() == ""


class Datagrams:
    """Stands where journald's socket stands."""

    sent = b""

    def sendmsg(self, buffers: Iterable[bytes], *_: object) -> int:
        self.sent = b"".join(buffers)
        return len(self.sent)

    def close(self) -> None:
        pass


def test_the_journal_is_told_where_in_the_code_a_record_was_made() -> None:
    datagrams = Datagrams()
    log.start(Settings(), JournalSocket(datagrams), io.StringIO())
    for logger in (log.get_logger(), log.get_logger().bind(model="m"), logging.getLogger("x")):
        logger.info("it happened")
        assert b"CODE_FILE=tests/unit/test_log.py\n" in datagrams.sent
        assert b"CODE_FUNC=test_the_journal_is_told_where_" in datagrams.sent


def ring_of(*records: log.Record) -> log.LogRing:
    ring = log.LogRing(3)
    for record in records:
        ring.add({"level": "info", "time": 0.0, **record})
    return ring


def texts(records: list[log.Record]) -> list[str]:
    return [record["text"] for record in records]


def test_the_ring_keeps_the_newest() -> None:
    ring = ring_of({"text": "a"}, {"text": "b"}, {"text": "c"}, {"text": "d"})
    assert texts(ring.records(9)) == ["b", "c", "d"]
    assert texts(ring.records(2)) == ["c", "d"]


def test_the_ring_is_asked_by_model_and_level() -> None:
    ring = ring_of(
        {"text": "a", "model": "m", "level": "error"},
        {"text": "b", "model": "n", "level": "error"},
        {"text": "c", "model": "m"},
    )
    assert texts(ring.records(9, model="m")) == ["a", "c"]
    assert texts(ring.records(9, model="m", level="warning")) == ["a"]
    assert texts(ring.records(1, level="warning")) == ["b"]


def test_what_the_ring_keeps_is_bounded_and_fits_json() -> None:
    ring = ring_of({"text": "x" * 100_000, "raw": b"\xff", "odd": "\udcff", "path": [1], "n": None})
    (record,) = ring.records(1)
    assert len(record["text"]) == log.KEPT_CHARACTERS + 1
    assert (record["raw"], record["odd"]) == ("\\xff", "\\udcff")
    assert (record["path"], record["n"]) == ("[1]", None)
    json.dumps(record).encode()


def test_subscribers_see_new_records_until_they_leave() -> None:
    ring = log.LogRing(1)
    seen: list[log.Record] = []
    leave = ring.subscribe(seen.append)
    ring.add({"level": "info", "text": "a"})
    leave()
    ring.add({"level": "info", "text": "b"})
    assert texts(seen) == ["a"]
