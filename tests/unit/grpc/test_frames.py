"""HTTP/2 frames: found in bytes that are cut anywhere, passed on or left out."""

from __future__ import annotations

import pytest

from tsd.grpc.frames import (
    CONTINUATION,
    DATA,
    END_HEADERS,
    END_STREAM,
    GOAWAY,
    HEADERS,
    PREFACE_BYTES,
    WINDOW_UPDATE,
    FrameReader,
    goaway,
    window_update,
)

Seen = list[tuple[int, int, int, int]]


def frame(kind: int, stream: int, payload: bytes = b"", flags: int = 0) -> bytes:
    return len(payload).to_bytes(3) + bytes((kind, flags)) + stream.to_bytes(4) + payload


def reader(seen: Seen, *left_out: int, preface_bytes: int = 0) -> FrameReader:
    def look(kind: int, flags: int, stream: int, length: int) -> bool:
        seen.append((kind, flags, stream, length))
        return stream not in left_out

    return FrameReader(look, preface_bytes=preface_bytes)


SAID = [
    frame(HEADERS, 1, b"h" * 30, END_HEADERS),
    frame(DATA, 1, b""),
    frame(HEADERS, 3, b"i" * 5, END_HEADERS),
    frame(DATA, 3, b"d" * 300, END_STREAM),
    frame(DATA, 1, b"e" * 7, END_STREAM),
    frame(HEADERS, 5, b"j", END_HEADERS),
]


@pytest.mark.parametrize("size", [1, 2, 8, 9, 10, 33, 1000])
def test_frames_are_found_however_the_bytes_are_cut(size: int) -> None:
    seen: Seen = []
    one, said = reader(seen), b"".join(SAID)
    pieces = [said[start : start + size] for start in range(0, len(said), size)]
    assert b"".join([one.feed(piece) for piece in pieces]) == said
    assert [(kind, stream) for kind, _, stream, _ in seen] == [
        (HEADERS, 1),
        (DATA, 1),
        (HEADERS, 3),
        (DATA, 3),
        (DATA, 1),
        (HEADERS, 5),
    ]
    assert one.is_between


@pytest.mark.parametrize("size", [1, 2, 8, 9, 10, 33, 1000])
@pytest.mark.parametrize("left_out", [(1,), (3,), (5,), (1, 5), (1, 3, 5)])
def test_frames_are_left_out_whole(size: int, left_out: tuple[int, ...]) -> None:
    one, said = reader([], *left_out), b"".join(SAID)
    pieces = [said[start : start + size] for start in range(0, len(said), size)]
    kept = b"".join([one.feed(piece) for piece in pieces])
    assert kept == b"".join(each for each in SAID if each[8] not in left_out)


def test_what_passes_whole_is_not_copied() -> None:
    said = b"".join(SAID)
    assert reader([]).feed(said) is said


def test_the_preface_is_no_frame() -> None:
    seen: Seen = []
    one = reader(seen, preface_bytes=PREFACE_BYTES)
    said = b"P" * PREFACE_BYTES + frame(DATA, 1, b"x")
    assert not one.is_between
    assert one.feed(said[:10]) + one.feed(said[10:]) == said
    assert seen == [(DATA, 0, 1, 1)]


def test_nothing_may_come_between_before_a_frame_and_a_head_have_ended() -> None:
    one = reader([])
    continued = frame(CONTINUATION, 1, b"abc", END_HEADERS)
    states = []
    # A part of the next one's head has not gone on yet.
    for said in (frame(HEADERS, 1, b"abc"), continued[:-1], continued[-1:], frame(DATA, 1)[:4]):
        one.feed(said)
        states.append(one.is_between)
    assert states == [False, False, True, True]


def test_the_frames_that_are_made_here() -> None:
    seen: Seen = []
    reader(seen).feed(goaway(7) + window_update(70_000))
    assert seen == [(GOAWAY, 0, 0, 8), (WINDOW_UPDATE, 0, 0, 4)]
    assert goaway(7)[9:] == bytes((0, 0, 0, 7, 0, 0, 0, 0))
    assert window_update(70_000)[9:] == (70_000).to_bytes(4)
