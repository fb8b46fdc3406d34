"""One HTTP answer as it comes, of which only the status and the end matter.

client.py reads answers whole; here the reader must never wait."""

from __future__ import annotations

HEAD_END = b"\r\n\r\n"
LINE_END = b"\r\n"


class Incoming:
    """Feed it what has come: it says whether the answer is whole."""

    def __init__(self) -> None:
        self.status = 0
        # The server closes the connection behind it.
        self.is_last = False
        self._data = bytearray()
        # Where the body, or the next chunk of it, begins; how long it is, unless it is chunked.
        self._at = 0
        self._length: int | None = None

    @property
    def is_success(self) -> bool:
        return 200 <= self.status < 300

    def feed(self, data: bytes) -> bool:
        self._data += data
        if not self.status and not self._read_head():
            return False
        if self._length is None:
            return self._read_chunks()
        return len(self._data) >= self._at + self._length

    def _read_head(self) -> bool:
        end = self._data.find(HEAD_END)
        if end < 0:
            return False
        first, *lines = bytes(self._data[:end]).lower().split(LINE_END)
        headers = dict(line.replace(b" ", b"").split(b":", 1) for line in lines if b":" in line)
        self.status = int(first[9:12])
        self.is_last = headers.get(b"connection") == b"close"
        if headers.get(b"transfer-encoding") != b"chunked":
            self._length = int(headers.get(b"content-length", b"0"))
        self._at = end + len(HEAD_END)
        return True

    def _read_chunks(self) -> bool:
        while (end := self._data.find(LINE_END, self._at)) >= 0:
            size = int(self._data[self._at : end].partition(b";")[0], 16)
            if size == 0:
                return self._data.endswith(HEAD_END)
            begin = end + len(LINE_END)
            if len(self._data) < begin + size + len(LINE_END):
                return False
            self._at = begin + size + len(LINE_END)
        return False
