"""What handlers print becomes lines, cut and counted."""

from __future__ import annotations

from uuid import uuid4

from hypothesis import given
from hypothesis import strategies as st

from tsd.ipc.lines import MAX_IDS, Line, pack_line
from tsd.serving.worker_output import WorkerOutput


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
