"""Heads like the one before, but for a length or an id: read without the parser.

Clients send the same lines over and over. A line that differs is taken only if it has the same
name as before, cannot change how the message is read, and holds nothing that the parser could
object to; the parser (head.py) decides about all else."""

from __future__ import annotations

from itertools import compress, count
from operator import ne

from tsd.http.message import Head
from tsd.settings import HttpSettings

CRLF = b"\r\n"
# Tab, visible characters, and what is not ASCII: the parser lets them through in any value.
PLAIN = bytes((9, *range(32, 127), *range(128, 256)))
# The parser, or head.py, reads something from these. The length is looked at here.
MEANINGFUL = frozenset(
    (b"host", b"transfer-encoding", b"expect", b"connection", b"proxy-connection", b"upgrade")
)
# As many digits are below any overflow.
MAX_DIGITS = 16


class HeadPattern:
    """The lines of one head, which others may follow."""

    __slots__ = ("_head", "_length_at", "_limits", "_lines", "_piece", "_prefixes", "_start_line")

    def __init__(self, limits: HttpSettings) -> None:
        self._limits = limits
        self._piece = b""
        self._head: Head | None = None
        self._start_line = b""
        self._lines: list[bytes] = []
        # What a line begins with that may differ in the rest; None: it may not.
        self._prefixes: list[bytes | None] = []
        self._length_at = -1

    def set(self, piece: bytes, head: Head) -> None:
        """The parser has read a head. One behind blank lines is no pattern."""
        if piece[0] in CRLF:
            return
        self._piece, self._head = piece, head
        self._start_line = piece[: piece.find(CRLF) + 2]
        self._lines = []

    def follow(self, piece: bytes) -> Head | None:
        """The head, if it differs from the pattern, and in nothing but plain headers."""
        before = self._head
        if before is None or not piece.startswith(self._start_line):
            return None
        if not self._lines:
            self._learn(before)
        lines, pattern = piece.split(CRLF), self._lines
        if len(lines) != len(pattern) or lines == pattern:
            return None
        headers = before.headers.copy()
        length = before.content_length
        for number in compress(count(), map(ne, lines, pattern)):
            value = self._value(number, lines[number])
            if value is None:
                return None
            headers[number - 1] = (headers[number - 1][0], value)
            if number == self._length_at:
                length = int(value)
        return Head(
            before.method,
            before.target,
            headers,
            before.path,
            before.query,
            length,
            before.is_http_1_0,
            before.expects_continue,
            before.is_last,
        )

    def _value(self, number: int, line: bytes) -> bytes | None:
        """The header's new value, unless the parser has to look at it."""
        prefix = self._prefixes[number]
        if prefix is None or not line.startswith(prefix) or line.translate(None, PLAIN):
            return None
        value = line[len(prefix) :].strip(b" \t")
        return value if number != self._length_at or self._is_length(value) else None

    def _is_length(self, value: bytes) -> bool:
        if not value.isdigit() or len(value) > MAX_DIGITS or (value[0] == 48 and value != b"0"):
            return False
        return int(value) <= self._limits.max_request_bytes

    def _learn(self, head: Head) -> None:
        self._lines = self._piece.split(CRLF)
        lower_names = [name.lower() for name, _ in head.headers]
        self._prefixes = [
            None,
            *(None if name.lower() in MEANINGFUL else name + b":" for name, _ in head.headers),
            None,
            None,
        ]
        self._length_at = -1
        if b"content-length" in lower_names:
            self._length_at = lower_names.index(b"content-length") + 1
