"""Phases as the operator sees them."""

from __future__ import annotations

import io

from tsctl.progress import CLEAR_LINE, LINE_WIDTH, LiveProgress, PlainProgress, phase_text

QUEUED = {"phase": "queued", "elapsed_s": 0.0}
LOADING = {
    "phase": "loading",
    "model": "digits",
    "version": "1.0",
    "ready": 0,
    "wanted": 2,
    "elapsed_s": 1.5,
}


def test_a_phase_is_said_with_what_is_known() -> None:
    assert phase_text(QUEUED) == "queued"
    assert phase_text(LOADING) == "loading digits/1.0 (0 of 2 workers ready)"
    assert phase_text({"phase": "x\r", "model": "m\x1b"}) == "x\\r m\\x1b"


def test_off_a_terminal_each_phase_is_one_line() -> None:
    stream = io.StringIO()
    progress = PlainProgress(stream)
    for record in (QUEUED, LOADING, {**LOADING, "ready": 1}, {"phase": "ready"}):
        progress.show(record)
    assert stream.getvalue() == "queued\nloading digits/1.0 (0 of 2 workers ready)\nready\n"


def test_on_a_terminal_one_line_is_rewritten_and_its_seconds_go_on() -> None:
    stream, now = io.StringIO(), iter([10.0, 10.0, 12.0])
    progress = LiveProgress(stream, clock=lambda: next(now))
    progress.show(LOADING)
    progress.draw()
    progress.close()
    text = "loading digits/1.0 (0 of 2 workers ready)"
    assert stream.getvalue() == (f"{CLEAR_LINE}{text}, 1.5 s{CLEAR_LINE}{text}, 3.5 s{CLEAR_LINE}")


def test_nothing_is_drawn_before_the_first_record() -> None:
    stream = io.StringIO()
    progress = LiveProgress(stream)
    progress.draw()
    progress.close()
    assert stream.getvalue() == ""


def test_a_rewritten_line_never_wraps() -> None:
    stream = io.StringIO()
    LiveProgress(stream, clock=lambda: 1.0).show({**LOADING, "model": "m" * 128})
    line = stream.getvalue().removeprefix(CLEAR_LINE)
    assert len(line) == LINE_WIDTH
    assert line.endswith(", 1.5 s")
