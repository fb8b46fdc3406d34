"""Heads of requests: httptools reads them, stricter rules are applied here.

The parser is given a head and never a byte beyond it, so that bodies can go elsewhere (body.py)
and the next request starts where this module says."""

from __future__ import annotations

import re
from functools import lru_cache

from httptools import HttpParserError, HttpParserUpgrade, HttpRequestParser

from tsd.http.message import Head
from tsd.http.pattern import HeadPattern
from tsd.http.refusal import MessageError
from tsd.settings import HttpSettings

END = b"\r\n\r\n"
# Headers that decide how a message is read: each may come once. With `_` they are forgeries.
FRAMING = frozenset({b"host", b"content-length", b"transfer-encoding", b"expect"})
FORGED = frozenset({b"content_length", b"transfer_encoding"})
HOST = re.compile(rb"([A-Za-z0-9._~%-]+|\[[0-9A-Fa-f:.]+\])(:[0-9]{0,5})?")
ABSOLUTE_TARGET = re.compile(rb"https?://([^/?#]+)([^#]*)", re.IGNORECASE)


# Only small heads are remembered, and of all connections together only so many.
KNOWN_HEAD_BYTES = 1024
KNOWN_HEADS = 1024
SEEN_HEADS = 8 * KNOWN_HEADS


class KnownHeads:
    """Heads that came more than once, under the same limits.

    Those that come once (each with an id of its own, say) leave only a hash behind."""

    __slots__ = ("_seen", "heads")

    def __init__(self) -> None:
        self._seen: set[int] = set()
        self.heads: dict[bytes, Head] = {}

    def offer(self, piece: bytes, head: Head) -> None:
        """A head that was not known has been read."""
        mark = hash(piece)
        if mark not in self._seen:
            if len(self._seen) >= SEEN_HEADS:
                self._seen.clear()
            self._seen.add(mark)
            return
        if len(self.heads) >= KNOWN_HEADS:
            self.heads.clear()
        self.heads[piece] = head


class HeadReader:
    """Reads one head after the other; those like an earlier one without the parser.

    A service sends the same head over and over, but for a length or an id. Measured: the last one
    again costs a fortieth of reading it, one that differs in a line (pattern.py) less than half."""

    __slots__ = (
        "_headers",
        "_is_complete",
        "_is_upgrade",
        "_keeps_alive",
        "_known",
        "_limits",
        "_parser",
        "_pattern",
        "_small_bytes",
        "_tail",
        "_target",
        "again_bytes",
        "fed_bytes",
        "last_head",
        "last_piece",
    )

    _tail: bytes
    _target: bytes
    fed_bytes: int

    def __init__(self, limits: HttpSettings, known: KnownHeads) -> None:
        self._limits = limits
        self._known = known
        # No limit is reached by a head that is smaller; only such heads are remembered.
        self._small_bytes = min(
            KNOWN_HEAD_BYTES,
            limits.max_target_bytes,
            limits.max_header_bytes,
            limits.max_headers_bytes,
        )
        self._pattern = HeadPattern(limits)
        # A head ends where the first blank line is: what begins with the last one, has it again.
        self.last_piece = b""
        self.last_head: Head | None = None
        # How long a request with that head and its body is; 0: there is none, or none so simple.
        self.again_bytes = 0
        self._keeps_alive = False
        self._parser = HttpRequestParser(self)
        self._clear()

    def read(self, data: bytes, start: int) -> tuple[int, Head | None]:
        """Read on; returns where the head, or the data, ended, and the head if it is complete."""
        if self.fed_bytes:
            return self._read_on(data, start)
        if self.last_head is not None and data.startswith(self.last_piece, start):
            return start + len(self.last_piece), self.last_head
        stop = data.find(END, start) + 4
        if not 4 <= stop <= start + self._small_bytes:
            return self._read_on(data, start)
        piece = data[start:stop]
        head = self._known.heads.get(piece) or self._followed(piece) or self._read_new(piece)
        self.last_piece, self.last_head = piece, head
        is_plain = not (head.is_last or head.expects_continue or head.content_length is None)
        self.again_bytes = len(piece) + (head.content_length or 0) if is_plain else 0
        return stop, head

    def renew(self) -> None:
        """Forget what was read of the present head, or what the parser expects after it."""
        self._parser = HttpRequestParser(self)
        self._clear()

    def close(self) -> None:
        """Drop the parser, which holds on to this object."""
        del self._parser

    def on_url(self, piece: bytes) -> None:
        """Parser callback."""
        self._target += piece

    def on_header(self, name: bytes, value: bytes) -> None:
        """Parser callback."""
        self._headers.append((name, value.rstrip(b" \t")))

    def on_headers_complete(self) -> None:
        """Parser callback."""
        self._is_complete = True
        # Only here does the parser still know what the Connection header said.
        self._keeps_alive = self._parser.should_keep_alive()

    def _followed(self, piece: bytes) -> Head | None:
        head = self._pattern.follow(piece)
        if head is not None:
            self._known.offer(piece, head)
        return head

    def _read_new(self, piece: bytes) -> Head:
        """A small head that came whole."""
        head = self._take_in(piece)
        if head is None:
            raise MessageError(400)
        self._known.offer(piece, head)
        self._pattern.set(piece, head)
        return head

    def _read_on(self, data: bytes, start: int) -> tuple[int, Head | None]:
        stop = self._find_end(data, start)
        is_end = stop >= 0
        if not is_end:
            stop = len(data)
            self._tail = (self._tail + data[max(start, stop - 3) :])[-3:]
        head = self._take_in(data[start:stop])
        if is_end and head is None:
            raise MessageError(400)
        return stop, head

    def _take_in(self, piece: bytes) -> Head | None:
        self.fed_bytes += len(piece)
        self.again_bytes = 0
        self._feed(piece)
        if self.fed_bytes > self._small_bytes:
            self._check_sizes()
        return self._take() if self._is_complete else None

    def _feed(self, piece: bytes) -> None:
        try:
            self._parser.feed_data(piece)
        except HttpParserUpgrade:
            # Not taken up: the message is read as if none had been offered.
            self._is_upgrade = True
        except HttpParserError as error:
            is_known_version = self._parser.get_http_version() in ("0.0", "1.0", "1.1")
            raise MessageError(400 if is_known_version else 505) from error

    def _take(self) -> Head:
        version = self._parser.get_http_version()
        if version not in ("1.1", "1.0"):
            raise MessageError(505)
        method: str = self._parser.get_method().decode()
        target = _origin_form(method, self._target)
        path, _, query = target.decode("latin-1").partition("?")
        head = Head(method, target, self._headers, path, query)
        head.is_http_1_0 = version == "1.0"
        head.is_last = not self._keeps_alive
        self._frame(head)
        if self._is_upgrade or head.content_length != 0:
            # The parser expects something else than a head now.
            self.renew()
        else:
            self._clear()
        return head

    def _clear(self) -> None:
        self._tail = b""
        self._target = b""
        self._headers: list[tuple[bytes, bytes]] = []
        self._is_complete = self._is_upgrade = False
        self.fed_bytes = 0

    def _find_end(self, data: bytes, start: int) -> int:
        """Where the head ends, though its last bytes be spread over several reads; else -1."""
        seam: int = (self._tail + data[start : start + 3]).find(END)
        if seam >= 0:
            return start + seam + 4 - len(self._tail)
        found: int = data.find(END, start)
        return found + 4 if found >= 0 else -1

    def _check_sizes(self) -> None:
        limits = self._limits
        if len(self._target) > limits.max_target_bytes:
            raise MessageError(414)
        if self.fed_bytes - len(self._target) > limits.max_headers_bytes:
            raise MessageError(431)
        if any(len(name) + len(value) > limits.max_header_bytes for name, value in self._headers):
            raise MessageError(431)

    def _frame(self, head: Head) -> None:
        """How long the body is, and what the client waits for before it sends it."""
        found = self._framing_headers()
        host = found.get(b"host")
        if host is None:
            if not head.is_http_1_0:
                raise MessageError(400)
        elif not _is_host(host):
            raise MessageError(400)
        length = found.get(b"content-length")
        if length is not None:
            head.content_length = self._length(length)
        if b"transfer-encoding" in found:
            if head.is_http_1_0 or found[b"transfer-encoding"].lower() != b"chunked":
                raise MessageError(400)
            # The parser has refused the two together.
            head.content_length = None
        if b"expect" in found and not head.is_http_1_0:
            head.expects_continue = _is_continue(found[b"expect"])

    def _framing_headers(self) -> dict[bytes, bytes]:
        headers = self._headers
        if len(headers) > self._limits.max_headers:
            raise MessageError(431)
        found = {name.lower(): value for name, value in headers}
        if not FORGED.isdisjoint(found):
            raise MessageError(400)
        if len(found) < len(headers):
            names = [name.lower() for name, _ in headers]
            if any(names.count(name) > 1 for name in FRAMING):
                raise MessageError(400)
        return found

    def _length(self, digits: bytes) -> int:
        # The parser has let through nothing but digits, as many as fit into 64 bits.
        if len(digits) > 1 and digits.startswith(b"0"):
            raise MessageError(400)
        length = int(digits)
        if length > self._limits.max_request_bytes:
            raise MessageError(413)
        return length


@lru_cache(maxsize=256)
def _is_host(value: bytes) -> bool:
    return HOST.fullmatch(value) is not None


def _is_continue(expectation: bytes) -> bool:
    if expectation.lower() != b"100-continue":
        raise MessageError(417)
    return True


def _origin_form(method: str, target: bytes) -> bytes:
    """The target as path and query, whatever form the client chose."""
    if target.startswith(b"/") and b"#" not in target:
        return target
    if method == "CONNECT":
        raise MessageError(501)
    if target == b"*" and method == "OPTIONS":
        return target
    absolute = ABSOLUTE_TARGET.fullmatch(target)
    if absolute is None or not _is_host(absolute[1]):
        raise MessageError(400)
    return absolute[2] if absolute[2].startswith(b"/") else b"/" + absolute[2]
