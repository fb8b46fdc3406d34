"""What handlers print becomes lines, cut and counted."""

from __future__ import annotations

import asyncio
import os
from itertools import pairwise
from uuid import uuid4

from hypothesis import given
from hypothesis import strategies as st

from tsd.ipc.lines import MAX_IDS, Line, pack_line
from tsd.serving.worker_output import LINES_AT_ONCE, OutputPipe, WorkerOutput


class Scene:
    def __init__(self, lines_per_s: int = 1000, line_bytes: int = 20) -> None:
        self.said: list[Line] = []
        self.left_out: list[int] = []
        self.output = WorkerOutput(self.said.append, self.left_out.append, lines_per_s, line_bytes)

    @property
    def lines(self) -> list[str]:
        return [line.text for line in self.said]


def test_lines_are_whole_however_they_come() -> None:
    scene = Scene()
    for piece in (b"one\ntw", b"o", b"\r\n\nend"):
        scene.output.feed(piece, 0.0)
    scene.output.end(0.0)
    assert scene.lines == ["one", "two", "", "end"]


def test_f10_a_line_without_an_end_is_cut_and_costs_no_memory() -> None:
    scene = Scene()
    for _ in range(1000):
        scene.output.feed(b"x" * 1000, 0.0)
    scene.output.feed(b"\nnext\n", 0.0)
    assert scene.lines == ["x" * 20 + " […]", "next"]


def test_what_a_line_is_about_costs_none_of_its_length() -> None:
    scene, ids = Scene(), [str(uuid4()) for _ in range(MAX_IDS)]
    scene.output.feed(pack_line("x" * 20, ids, "error", "l" * 200).encode(), 0.0)
    scene.output.feed(pack_line("x" * 21, ids).encode(), 0.0)
    first, second = scene.said
    assert first == Line("x" * 20, "error", ",".join(ids), "l" * 128)
    assert second == Line("x" * 20 + " […]", "", ",".join(ids), "")


def test_f10_a_flood_is_counted_instead_of_logged() -> None:
    scene = Scene(lines_per_s=3)
    scene.output.feed(b"line\n" * 10, 5.0)
    scene.output.feed(b"later\n", 6.0)
    scene.output.end(6.0)
    assert scene.lines == ["line"] * 3 + ["later"]
    assert scene.left_out == [7]


@given(st.lists(st.binary(max_size=50)))
def test_no_output_is_too_strange(pieces: list[bytes]) -> None:
    scene = Scene()
    for piece in pieces:
        scene.output.feed(piece, 0.0)
    scene.output.end(0.0)
    assert all(len(line) <= 20 + len(" […]") for line in scene.lines)


def test_f10_lines_that_are_left_out_are_not_looked_at() -> None:
    scene = Scene(lines_per_s=3)
    assert scene.output.feed_some(b"begun", 5.0) == b""
    assert scene.output.feed_some(b"\n" * 3, 5.0) == b""
    assert scene.output.feed_some(b"x\n" * 32_768 + b"cut", 5.0) == b"", "in one step"
    scene.output.feed(b" short\n", 6.0)
    scene.output.end(6.0)
    assert scene.lines == ["begun", "", "", "cut short"]
    assert scene.left_out == [32_768]


def test_f10_many_lines_leave_the_loop_to_others_between_them() -> None:
    async def steps_of(n: int) -> list[int]:
        scene = Scene()
        read_end, write_end = os.pipe()
        pipe = OutputPipe(read_end, scene.output, asyncio.get_running_loop())
        pipe.watch()
        os.write(write_end, b"line\n" * n + b"end")
        seen = [0]
        for _ in range(20):
            await asyncio.sleep(0)
            seen.append(len(scene.lines))
        os.write(write_end, b"ing\n" + b"last\n" * n)
        pipe.close()
        os.close(write_end)
        assert scene.lines == ["line"] * n + ["ending"] + ["last"] * n
        return [after - before for before, after in pairwise(seen)]

    n = LINES_AT_ONCE * 4
    steps = [step for step in asyncio.run(steps_of(n)) if step]
    assert steps == [LINES_AT_ONCE] * 4


def test_a_pipe_that_is_closed_between_two_steps_keeps_its_lines() -> None:
    async def close_early() -> list[str]:
        scene = Scene()
        read_end, write_end = os.pipe()
        pipe = OutputPipe(read_end, scene.output, asyncio.get_running_loop())
        pipe.watch()
        os.write(write_end, b"line\n" * LINES_AT_ONCE * 4)
        for _ in range(3):
            await asyncio.sleep(0)
        assert 0 < len(scene.lines) < LINES_AT_ONCE * 4
        pipe.close()
        os.close(write_end)
        await asyncio.sleep(0)
        return scene.lines

    assert asyncio.run(close_early()) == ["line"] * LINES_AT_ONCE * 4
