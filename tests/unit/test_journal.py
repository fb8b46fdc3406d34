"""The journal: the bytes that journald reads, its way, and what `journalctl -x` explains."""

from __future__ import annotations

import array
import errno
import fcntl
import io
import os
import re
import socket
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TextIO

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tsd import journal
from tsd.journal import MESSAGE_IDS, JournalSocket, journal_datagram
from tsd.serving.model import ModelState

ROOT = Path(__file__).parents[2]


@dataclass
class Datagrams:
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
        assert address == journal.JOURNAL_PATH
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


RECORD = {"time": 0.0, "level": "warning", "text": "it happened"}


def sent(datagrams: Datagrams, **values: Any) -> dict[str, bytes]:
    JournalSocket(datagrams).write(RECORD | values)
    return fields_of(datagrams.datagrams[-1])


def test_a_record_has_the_fields_that_operators_ask_for() -> None:
    datagrams = Datagrams()
    values = {"model": "digits", "version": "1.0", "worker": 2, "request_id": "r-1", "errno": 28}
    found = sent(datagrams, **values, code="worker_died", cause=None)
    assert {name: value for name, value in found.items() if not name.startswith("CODE_")} == {
        "MESSAGE": b"it happened",
        "PRIORITY": b"4",
        "SYSLOG_IDENTIFIER": b"tsd",
        "MESSAGE_ID": MESSAGE_IDS["worker_died"].encode(),
        "TSD_MODEL": b"digits",
        "TSD_VERSION": b"1.0",
        "TSD_WORKER": b"2",
        "TSD_REQUEST_ID": b"r-1",
        "ERRNO": b"28",
        "TSD_EVENT": b"worker_died",
    }
    assert datagrams.flags == [socket.MSG_DONTWAIT | socket.MSG_NOSIGNAL]


def test_a_line_about_several_requests_is_found_by_the_id_of_each() -> None:
    datagram = journal_datagram(RECORD | {"request_id": "r-1,r-2"}, {})
    assert b"TSD_REQUEST_ID=r-1\nTSD_REQUEST_ID=r-2\n" in datagram


def test_the_place_in_the_code_is_told_and_not_where_it_was_built() -> None:
    found = sent(Datagrams())
    assert found["CODE_FILE"] == b"tests/unit/test_journal.py"
    assert found["CODE_FUNC"] == b"sent"
    assert int(found["CODE_LINE"]) > 0


def test_what_a_worker_printed_was_not_made_in_the_daemons_code() -> None:
    assert not any(name.startswith("CODE_") for name in sent(Datagrams(), source="stdout"))


def test_a_traceback_is_part_of_the_journals_message() -> None:
    datagram = journal_datagram({"level": "error", "text": "a", "exception": "b\nc"}, {})
    assert fields_of(datagram)["MESSAGE"] == b"a\nb\nc"


@given(
    st.text(),
    st.dictionaries(
        st.text().filter(lambda name: name not in ("time", "level", "text", "exception", "code")),
        st.text(st.characters(exclude_categories=["Cs"])) | st.binary() | st.integers(),
        max_size=3,
    ),
)
def test_no_value_starts_a_journal_field_of_its_own(text: str, values: dict[str, Any]) -> None:
    datagram = journal_datagram({**values, "level": "info", "text": text}, {})
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
    datagram = journal_datagram({"level": "info", "text": text, "odd": "\ud800"}, {})
    assert fields_of(datagram)["MESSAGE"] == b"caf\xe9 \xff"
    assert fields_of(datagram)["TSD_ODD"] == b"\\ud800"


def assert_sent_as_file(datagrams: Datagrams, text: str) -> None:
    before = set(os.listdir("/proc/self/fd"))  # noqa: PTH208 (names alone)
    assert sent(datagrams, text=text)["MESSAGE"] == text.encode()
    assert datagrams.seals == journal.SEALS
    assert set(os.listdir("/proc/self/fd")) == before  # noqa: PTH208 (names alone)


def test_a_record_over_48_kib_goes_as_a_sealed_file() -> None:
    datagrams = Datagrams()
    assert_sent_as_file(datagrams, "x" * 49_152)
    assert len(datagrams.flags) == 1, "it was not tried as a datagram"


@pytest.mark.parametrize("refused", [errno.EMSGSIZE, errno.ENOBUFS])
def test_so_does_one_that_the_kernel_finds_too_large(refused: int) -> None:
    datagrams = Datagrams(failures=[refused])
    assert_sent_as_file(datagrams, "x" * 40_000)
    assert len(datagrams.flags) == 2


@pytest.mark.parametrize("failure", [errno.EAGAIN, errno.ENOENT, errno.ECONNREFUSED])
def test_a_journal_that_is_slow_or_gone_is_an_error_and_is_found_again(failure: int) -> None:
    datagrams = Datagrams(failures=[failure])
    with pytest.raises(OSError, match="as asked"):
        sent(datagrams)
    assert datagrams.datagrams == []
    assert sent(datagrams)["MESSAGE"] == b"it happened"


def test_a_closed_journal_is_an_error() -> None:
    datagrams = Datagrams()
    JournalSocket(datagrams).close()
    with pytest.raises(OSError, match="as asked"):
        sent(datagrams)


def test_the_journal_is_taken_where_stderr_leads_to_it(tmp_path: Path) -> None:
    with (tmp_path / "stderr").open("w") as stream:
        found = os.fstat(stream.fileno())
        here = f"{found.st_dev}:{found.st_ino}"
        assert is_taken("auto", stream, here)
        assert not is_taken("auto", stream, "1:2")
        assert not is_taken("auto", stream, "")
        assert not is_taken("text", stream, here)
    assert is_taken("journal", io.StringIO(), "")
    assert not is_taken("auto", io.StringIO(), "1:2")


def is_taken(chosen: str, stream: TextIO, journal_stream: str) -> bool:
    found = journal.find_journal(chosen, stream, journal_stream)
    if found:
        found.close()
    return found is not None


@dataclass(frozen=True)
class Entry:
    """One entry of the catalogue."""

    code: str
    message_id: str
    headers: dict[str, str]
    text: str


def catalogue() -> dict[str, Entry]:
    """By code: what packaging/journal/tsd.catalog says."""
    whole = (ROOT / "packaging/journal/tsd.catalog").read_text()
    entries = {}
    for code, message_id, head, text in re.findall(
        r"^# (\w+)\n-- ([0-9a-f]{32})\n((?:[A-Z].*\n)+)\n((?:[^#\n].*\n|\n)+)", whole, re.MULTILINE
    ):
        headers = dict(line.split(": ", 1) for line in head.splitlines())
        entries[code] = Entry(code, message_id, headers, text.strip())
    assert whole.count("\n-- ") == len(entries)
    return entries


def test_the_catalogue_explains_every_message_id_and_no_other() -> None:
    assert {code: entry.message_id for code, entry in catalogue().items()} == MESSAGE_IDS
    assert len(set(MESSAGE_IDS.values())) == len(MESSAGE_IDS)


@pytest.mark.parametrize("entry", catalogue().values(), ids=lambda entry: str(entry.code))
def test_an_entry_says_what_happened_and_what_to_do(entry: Entry) -> None:
    assert list(entry.headers) == ["Subject", "Defined-By", "Support", "Documentation"]
    assert entry.headers["Defined-By"] == "tsd"
    name, section = re.fullmatch(r"man:([\w.-]+)\((\d)\)", entry.headers["Documentation"]).groups()  # type: ignore[union-attr]
    assert (ROOT / f"man/{name}.{section}").exists()
    assert "\n\n" in entry.text, "what happened, then what to do"


def test_every_code_of_the_table_is_used() -> None:
    sources = "".join(
        path.read_text() for path in (ROOT / "tsd").rglob("*.py") if path.name != "journal.py"
    )
    named = set(re.findall(r'"code": "(\w+)"|code="(\w+)"', sources))
    used = {one or other for one, other in named} | {f"model_{state.value}" for state in ModelState}
    assert set(MESSAGE_IDS) <= used
