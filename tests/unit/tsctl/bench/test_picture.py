"""What was measured, as people see it."""

from __future__ import annotations

from dataclasses import replace

from tsctl.bench.picture import curve_lines, letters, setting_text, table_lines
from tsctl.bench.search import Goal, Point, Setting

SLOW = Point(Setting(1, 1), 2, 100.0, 10.0, 20.0, mean_batch=1.0, processors=0.5)
FAST = Point(Setting(2, 16), 32, 800.0, 30.0, 80.0, mean_batch=15.5, processors=1.9)


def test_each_setting_has_its_letter() -> None:
    assert letters([SLOW, FAST, replace(SLOW, clients=4)]) == {
        SLOW.setting: "a",
        FAST.setting: "b",
    }


def test_the_table_has_a_row_for_each_point() -> None:
    heading, slow, fast = table_lines([SLOW, FAST], Goal(99.9))
    assert heading.split("  ")[-3:] == ["P99.9 MS", "MEAN BATCH", " CPU"]
    assert slow.split() == ["a", "1", "1", "2", "100.0", "10.00", "20.00", "1.0", "0.50"]
    assert fast.split() == ["b", "2", "16", "32", "800.0", "30.00", "80.00", "15.5", "1.90"]


def test_what_spoils_a_figure_is_marked_and_explained() -> None:
    points = [replace(SLOW, has_others=True), replace(FAST, refused=3, is_limited=True)]
    _, slow, fast, *notes = table_lines(points, Goal(99))
    assert "100.0*" in slow
    assert "800.0+!" in fast
    assert [note[0] for note in notes] == ["*", "+", "!"]


def test_the_curve_has_throughput_to_the_right_and_latency_upwards() -> None:
    lines = curve_lines([SLOW, FAST], Goal(99, 40.0))
    where = {
        letter: (number, line.index(letter, 12))
        for number, line in enumerate(lines[1:-2])
        for letter in "ab"
        if letter in line[12:]
    }
    assert where["a"][0] > where["b"][0]
    assert where["a"][1] < where["b"][1]
    target = next(number for number, line in enumerate(lines[1:-2]) if "---" in line)
    assert where["b"][0] < target < where["a"][0]
    assert "40.00" in lines[1 + target]
    assert lines[-1].endswith("800.0")


def test_one_point_makes_a_curve_and_none_makes_no_curve() -> None:
    assert any("a" in line for line in curve_lines([SLOW], Goal(99)))
    assert curve_lines([replace(SLOW, p50_ms=0.0, tail_ms=0.0)], Goal(99)) == []


def test_a_setting_in_words() -> None:
    assert setting_text(SLOW.setting) == "1 worker, batches of up to 1"
    assert setting_text(FAST.setting) == "2 workers, batches of up to 16"
