"""The journal: what a record looks like in journald's native protocol, and how it gets there.

One datagram a record; a record that is too large for one goes as a sealed memory file. What the
message ids stand for is told in packaging/journal/tsd.catalog, and shown by `journalctl -x`."""

from __future__ import annotations

import array
import errno
import fcntl
import inspect
import os
import socket
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Protocol, TextIO

JOURNAL_PATH = "/run/systemd/journal/socket"
PRIORITIES = {"debug": 7, "info": 6, "warning": 4, "error": 3, "critical": 2}
SEALS = fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_WRITE | fcntl.F_SEAL_SEAL
DATAGRAM_BYTES = 48 * 1024
"""A larger record goes as a memory file at once: the kernel's own limit is the machine's affair."""
FIELD_CHARACTERS = 64
"""journald ignores longer field names."""
# What a record's keys are called in the journal, where that is not TSD_ and the key.
FIELDS = {"code": "TSD_EVENT", "errno": "ERRNO"}
IN_THE_MESSAGE = {"time", "level", "text", "exception"}
# On the way from whoever logs to here.
LOGGING_MODULES = ("tsd.journal.", "tsd.log.", "structlog.", "logging.")

MESSAGE_IDS = {
    "ready": "24ded9cc927f4084a7d70fdb619dfa8c",
    "listening": "29034dc81bb443ecae18c2bc45dac514",
    "stopping": "d4da705c32d84474810937a0c9e63919",
    "drained": "58cb534ddd6c46f09bf42009343391e2",
    "recovered": "9cc2ddd539234c528be3bc9a96af8323",
    "reloaded": "8b4f811dbd874335b10bc24c98adaa76",
    "reload_failed": "f1bfaf907942440191bbe1a2727711f4",
    "restart_needed": "54760d679d864c899e7fa96a28580fbc",
    "runtime_ready": "a3fb7513fb8d4cb38a167b743050cccd",
    "fork_server_died": "9154d714a321465ca03e6e48fd141fdd",
    "fork_server_hung": "5cac83732141405f8279dc42ce6e6869",
    "model_ready": "e78f64890d27464385dac0262d7c9d54",
    "model_degraded": "67b6243fdf8e4cf986fb7842ce97098f",
    "model_failed": "f7c3fd9e0bf94c249ec38de3415f7021",
    "model_unloaded": "f3c8875dd88c49289636180c65e92c0f",
    "model_not_restored": "d96d61a53dff4f208f8a19fa1cb5b95d",
    "model_not_loaded": "5dab029b657b48bd8bb9bad970bb5865",
    "worker_ready": "6077adb2f6784c7f9ccd88824e5358d7",
    "worker_start_failed": "ce473a1d46e149279b20ce4b1425bb23",
    "worker_died": "8631f8eb1a9542b2826752c7f38f07d6",
    "worker_hung": "a57e4a21ed8d4958b45a6b44260258b0",
    "worker_killed": "b5f8cd8e833f477dbdb6a0755d204ded",
    "handler_raised": "58f517b2f1de48918f0fafb5a9573e3b",
    "bad_output": "75ab86051037483298c06d4c3b50247e",
    "deadline_passed": "c25b1988ead3445092593638b4c37278",
    "log_suppressed": "26781b5e719c4229999659502f0d23a7",
    "idle": "84e5ce01748c44bfb4c772a49267acef",
    "fd_exhausted": "ba90df60595e4c3393b824ae84b16494",
    "cgroups_failed": "25179718742348c9ada3416285c87cb7",
    "limits_missing": "cca3ed1118914772885ee1abadd31bbb",
    "shm_exhausted": "906da43dcf554c088394bfa757d2c05f",
    "state_damaged": "981539756b6940218a7cb4d7acf0d914",
    "state_write_failed": "600cb42c21f6464e916bf155ae9e092f",
    "snapshot_failed": "b83dc2b0c2924ac8af8ae6ebe216dc45",
}
"""What happened, by the `code` of a record, and the 128 bits that journald knows it by."""


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


class JournalSocket:
    """Sends by path, so a journal that was away is found again."""

    def __init__(self, datagrams: DatagramSocket, path: str = JOURNAL_PATH) -> None:
        self._datagrams = datagrams
        self._path = path

    def write(self, record: Mapping[str, Any]) -> None:
        """Raises OSError when the journal does not take it at once."""
        # What has a source was said by another process.
        place = {} if "source" in record else _place_of_caller()
        datagram = journal_datagram(record, place)
        if len(datagram) <= DATAGRAM_BYTES:
            try:
                self._send(datagram)
                return
            except OSError as error:
                if error.errno not in (errno.EMSGSIZE, errno.ENOBUFS):
                    raise
        with _sealed_file(datagram) as descriptor:
            rights = array.array("i", [descriptor])
            self._send(b"", (socket.SOL_SOCKET, socket.SCM_RIGHTS, rights))

    def close(self) -> None:
        """Records that still come are counted as dropped."""
        self._datagrams.close()

    def _send(self, datagram: bytes, *ancillary: tuple[int, int, Any]) -> None:
        flags = socket.MSG_DONTWAIT | socket.MSG_NOSIGNAL
        self._datagrams.sendmsg([datagram], ancillary, flags, self._path)


def find_journal(chosen: str, stream: TextIO, journal_stream: str) -> JournalSocket | None:
    """The journal, if it was chosen, or if nothing was and `stream` already leads to it."""
    if chosen == "journal" or (chosen == "auto" and _leads_to(stream, journal_stream)):
        return JournalSocket(socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC))
    return None


def journal_datagram(record: Mapping[str, Any], place: Mapping[str, object]) -> bytes:
    """The record's fields as journald reads them; a traceback follows the message's first line.

    `place`: where in the code it was made, as fields."""
    text = "\n".join(str(record[key]) for key in ("text", "exception") if record.get(key))
    fields = [
        _field("MESSAGE", text),
        _field("PRIORITY", PRIORITIES.get(record["level"], 6)),
        _field("SYSLOG_IDENTIFIER", "tsd"),
    ]
    message_id = MESSAGE_IDS.get(str(record.get("code")))
    if message_id:
        fields.append(_field("MESSAGE_ID", message_id))
    fields += [_field(name, value) for name, value in place.items()]
    for key, value in record.items():
        if key not in IN_THE_MESSAGE and value is not None:
            # A line can be about several requests, and is found by the id of each.
            values = str(value).split(",") if key == "request_id" else [value]
            fields += [_field(_field_name(key), one) for one in values]
    return b"".join(fields)


def _place_of_caller() -> dict[str, object]:
    """Where the record was made: files are named within the package, wherever that is installed."""
    frame = inspect.currentframe()
    while frame is not None:
        module = str(frame.f_globals.get("__name__"))
        if not f"{module}.".startswith(LOGGING_MODULES):
            return {
                "CODE_FILE": module.replace(".", "/") + ".py",
                "CODE_LINE": frame.f_lineno,
                "CODE_FUNC": frame.f_code.co_name,
            }
        frame = frame.f_back
    return {}


def _leads_to(stream: TextIO, journal_stream: str) -> bool:
    """Whether the stream is the one that systemd connected to the journal."""
    try:
        found = os.fstat(stream.fileno())
    except (OSError, ValueError):  # no descriptor behind it
        return False
    return journal_stream == f"{found.st_dev}:{found.st_ino}"


def _field_name(key: str) -> str:
    """A journal field name for a record's key; `code` names what happened."""
    if key in FIELDS:
        return FIELDS[key]
    name = "".join(c if c.isascii() and c.isalnum() else "_" for c in key.upper())
    return f"TSD_{name}"[:FIELD_CHARACTERS]


def _field(name: str, value: object) -> bytes:
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
