"""The log: what a record looks like in each format, what is kept, and that it never blocks."""

from __future__ import annotations

import array
import errno
import fcntl
import io
import json
import logging
import os
import socket
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TextIO

import pytest
import structlog
from hypothesis import given, settings
from hypothesis import strategies as st

from tsd import log


@dataclass(frozen=True)
class Settings:
    level: str = "info"
    format: str = "text"
    kept_records: int = 5


@dataclass
class Journal:
    """Stands where journald's socket stands; each failure is raised once."""

    failures: list[int] = field(default_factory=list)
    datagrams: list[bytes] = field(default_factory=list)
    flags: list[int] = field(default_factory=list)
    seals: int = 0

    def sendmsg(
        self,
        buffers: Iterable[bytes],
        ancdata: Iterable[tuple[int, int, Any]],
        flags: int,
        address: str,
        /,
    ) -> int:
        assert address == log.JOURNAL_PATH
        self.flags.append(flags)
        if self.failures:
            raise OSError(self.failures.pop(0), "as asked")
        content = b"".join(buffers)
        for level, kind, descriptors in ancdata:
            assert (level, kind) == (socket.SOL_SOCKET, socket.SCM_RIGHTS)
            content += self._received(descriptors)
        self.datagrams.append(content)
        return len(content)

    def close(self) -> None:
        self.failures = [errno.EBADF]

    def _received(self, descriptors: array.array[int]) -> bytes:
        self.seals = fcntl.fcntl(descriptors[0], fcntl.F_GET_SEALS)
        return os.pread(descriptors[0], 10_000_000, 0)


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


def fields_of(datagram: bytes) -> dict[str, bytes]:
    """What journald would store: its reading of the native protocol."""
    found: dict[str, bytes] = {}
    at = 0
    while at < len(datagram):
        end = datagram.index(b"\n", at)
        name, equals, value = datagram[at:end].partition(b"=")
        at = end + 1
        if not equals:
            size = int.from_bytes(datagram[at : at + 8], "little")
            value = datagram[at + 8 : at + 8 + size]
            assert datagram[at + 8 + size : at + 9 + size] == b"\n"
            at += size + 9
        found[name.decode()] = value
    return found


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


@settings(deadline=None)
@given(st.text(), st.text())
def test_any_text_stays_on_its_line(text: str, value: str) -> None:
    line = log.text_line({"time": 0.0, "level": "info", "text": text, "value": value})
    assert line.isprintable()


def test_values_that_are_not_one_word_are_quoted() -> None:
    assert written(a="", b="x y", c='"').endswith(' a="" b="x y" c="\\""\n')


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


def test_a_stream_that_fails_costs_the_record_only() -> None:
    stream = io.StringIO()
    running = log.start(Settings(), None, stream)
    stream.close()
    log.get_logger().info("lost")
    assert running.dropped == 1
    assert len(running.ring.records(9)) == 1


def journalled(journal: Journal, text: str = "it happened", **fields: Any) -> log.Log:
    running = log.start(Settings(), log.JournalSocket(journal), io.StringIO())
    log.get_logger().warning(text, **fields)
    return running


def test_the_journal_gets_native_fields() -> None:
    journal = Journal()
    journalled(journal, model="digits", version="1.0", request_id="r-1", code="worker_died")
    assert fields_of(journal.datagrams[0]) == {
        "MESSAGE": b"it happened",
        "PRIORITY": b"4",
        "SYSLOG_IDENTIFIER": b"tsd",
        "TSD_MODEL": b"digits",
        "TSD_VERSION": b"1.0",
        "TSD_REQUEST_ID": b"r-1",
        "TSD_EVENT": b"worker_died",
    }
    assert journal.flags == [socket.MSG_DONTWAIT | socket.MSG_NOSIGNAL]


def test_a_traceback_is_part_of_the_journals_message() -> None:
    datagram = log.journal_datagram({"level": "error", "text": "a", "exception": "b\nc"})
    assert fields_of(datagram)["MESSAGE"] == b"a\nb\nc"


@settings(deadline=None)
@given(
    st.text(),
    st.dictionaries(
        st.text().filter(lambda name: name not in ("time", "level", "text", "exception", "code")),
        st.text(st.characters(exclude_categories=["Cs"])) | st.binary() | st.integers(),
        max_size=3,
    ),
)
def test_no_value_starts_a_journal_field_of_its_own(text: str, values: dict[str, Any]) -> None:
    datagram = log.journal_datagram({**values, "level": "info", "text": text})
    found = fields_of(datagram)
    allowed = set("ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_")
    for name in found.keys() - {"MESSAGE", "PRIORITY", "SYSLOG_IDENTIFIER"}:
        assert name.startswith("TSD_")
        assert set(name) <= allowed
        assert len(name) <= 64
    if len(values) == 1:
        (value,) = values.values()
        expected = value if isinstance(value, bytes) else str(value).encode()
        assert list(found.values())[3:] == [expected]


def test_the_bytes_that_a_worker_printed_reach_the_journal_as_they_were() -> None:
    text = b"caf\xe9 \xff".decode("utf-8", "surrogateescape")
    datagram = log.journal_datagram({"level": "info", "text": text, "odd": "\ud800"})
    assert fields_of(datagram)["MESSAGE"] == b"caf\xe9 \xff"
    assert fields_of(datagram)["TSD_ODD"] == b"\\ud800"


@pytest.mark.parametrize("refused", [errno.EMSGSIZE, errno.ENOBUFS])
def test_a_record_too_large_for_a_datagram_goes_as_a_sealed_file(refused: int) -> None:
    journal = Journal(failures=[refused])
    before = set(os.listdir("/proc/self/fd"))  # noqa: PTH208 (names alone)
    running = journalled(journal, "x" * 300_000)
    assert fields_of(journal.datagrams[0])["MESSAGE"] == b"x" * 300_000
    assert journal.seals == log.SEALS
    assert running.dropped == 0
    assert set(os.listdir("/proc/self/fd")) == before  # noqa: PTH208 (names alone)


@pytest.mark.parametrize("failure", [errno.EAGAIN, errno.ENOENT, errno.ECONNREFUSED])
def test_a_journal_that_is_slow_or_gone_costs_the_record_only(failure: int) -> None:
    journal = Journal(failures=[failure])
    running = journalled(journal)
    assert (running.dropped, journal.datagrams) == (1, [])
    log.get_logger().info("again")
    assert len(journal.datagrams) == 1


def test_a_closed_journal_costs_the_record_only() -> None:
    journal = Journal()
    way = log.JournalSocket(journal)
    running = log.start(Settings(), way, io.StringIO())
    way.close()
    log.get_logger().info("lost")
    assert running.dropped == 1


def test_the_journal_is_taken_where_stderr_leads_to_it(tmp_path: Path) -> None:
    with (tmp_path / "stderr").open("w") as stream:
        found = os.fstat(stream.fileno())
        here = f"{found.st_dev}:{found.st_ino}"
        assert is_journal_taken("auto", stream, here)
        assert not is_journal_taken("auto", stream, "1:2")
        assert not is_journal_taken("auto", stream, "")
        assert not is_journal_taken("text", stream, here)
    assert is_journal_taken("journal", io.StringIO(), "")
    assert not is_journal_taken("auto", io.StringIO(), "1:2")


def is_journal_taken(chosen: str, stream: TextIO, journal_stream: str) -> bool:
    journal = log.find_journal(chosen, stream, journal_stream)
    if journal:
        journal.close()
    return journal is not None


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
