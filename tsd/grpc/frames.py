"""HTTP/2 frames as far as the relay looks into them: where each ends, and of which stream it is."""

from __future__ import annotations

from collections.abc import Callable

PREFACE_BYTES = 24
HEAD_BYTES = 9

DATA, HEADERS, RST_STREAM, GOAWAY, WINDOW_UPDATE, CONTINUATION = 0, 1, 3, 7, 8, 9
END_STREAM, END_HEADERS = 0x1, 0x4

# In a GOAWAY: whatever stream comes will still be answered.
ALL_STREAMS = 2**31 - 1

Look = Callable[[int, int, int, int], bool]
"""Told each frame's kind, flags, stream and length; says whether it goes on."""


class FrameReader:
    """Finds the frames in what one side says. Never more than a part of a head is kept."""

    __slots__ = ("_held", "_is_whole", "_left", "_look", "_passes", "frames")

    def __init__(self, look: Look, *, preface_bytes: int = 0) -> None:
        # How many have begun.
        self.frames = 0
        self._look = look
        self._held = b""
        # What is still to come of the present frame, and whether it goes on.
        self._left = preface_bytes
        self._passes = True
        # False while the head of a stream goes on in the next frame.
        self._is_whole = True

    @property
    def is_between(self) -> bool:
        """Whether another frame may be put behind what has gone on."""
        return self._is_whole and not self._left

    def feed(self, data: bytes) -> bytes:
        """What of it goes on."""
        if self._held:
            data = self._held + data
        kept: list[bytes] = []
        begin, position = 0, min(self._left, len(data))
        self._left -= position
        while not self._left and len(data) - position >= HEAD_BYTES:
            passes, length = self._read_head(data, position)
            if passes != self._passes:
                if self._passes:
                    kept.append(data[begin:position])
                begin, self._passes = position, passes
            position += HEAD_BYTES + length
            if position > len(data):
                self._left, position = position - len(data), len(data)
        if self._passes:
            kept.append(data[begin:position])
        self._held = data[position:]
        return kept[0] if len(kept) == 1 else b"".join(kept)

    def _read_head(self, data: bytes, position: int) -> tuple[bool, int]:
        self.frames += 1
        length = int.from_bytes(data[position : position + 3])
        kind, flags = data[position + 3], data[position + 4]
        stream = int.from_bytes(data[position + 5 : position + HEAD_BYTES]) & ALL_STREAMS
        self._is_whole = kind not in (HEADERS, CONTINUATION) or bool(flags & END_HEADERS)
        return self._look(kind, flags, stream, length), length


def goaway(last_stream: int) -> bytes:
    """Later streams than this one are not begun: the client may ask elsewhere."""
    return _frame(GOAWAY, last_stream.to_bytes(4) + bytes(4))


def window_update(size: int) -> bytes:
    """So many bytes more may be sent on the connection."""
    return _frame(WINDOW_UPDATE, size.to_bytes(4))


def _frame(kind: int, payload: bytes) -> bytes:
    return len(payload).to_bytes(3) + bytes((kind, 0)) + bytes(4) + payload
