"""Values as text."""

from __future__ import annotations

import pytest

from tsctl.format import (
    block,
    byte_count,
    cell,
    duration,
    escape,
    fields,
    first_line,
    milliseconds,
    table,
)


@pytest.mark.parametrize(
    ("text", "escaped"),
    [
        ("digits ü 数", "digits ü 数"),
        ("\x1b[2J", "\\x1b[2J"),
        ("a\rb\nc\td", "a\\rb\\nc\\td"),
        ("\x9b31m", "\\x9b31m"),
        ("a\u202eb", "a\\u202eb"),
        ("\udcff", "\\udcff"),
    ],
)
def test_nothing_that_steers_a_terminal_passes(text: str, escaped: str) -> None:
    assert escape(text) == escaped


def test_line_ends_pass_only_where_they_are_kept() -> None:
    assert escape("a\n\x1bb", keep="\n") == "a\n\\x1bb"


@pytest.mark.parametrize(
    ("value", "text"),
    [(None, "-"), ("", "-"), (0, "0"), (True, "yes"), (2.34567, "2.346"), ("a\x07", "a\\x07")],
)
def test_a_value_is_one_word_or_a_dash(value: object, text: str) -> None:
    assert cell(value) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [(0, "0 B"), (1023, "1023 B"), (1536, "1.5 KiB"), (5 * 2**40, "5.0 TiB"), (None, "-")],
)
def test_bytes_have_a_fitting_unit(value: object, text: str) -> None:
    assert byte_count(value) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, "-"),
        (1.25, "1.2 s"),
        (75, "1 min 15 s"),
        (3 * 3600 + 60, "3 h 1 min"),
        (49 * 3600, "2 d 1 h"),
    ],
)
def test_durations_have_two_units_at_most(value: object, text: str) -> None:
    assert duration(value) == text


def test_milliseconds_have_one_digit_after_the_point() -> None:
    assert (milliseconds(11.27), milliseconds(None)) == ("11.3 ms", "-")


def test_only_the_first_line_of_an_error_stands_in_a_table() -> None:
    assert first_line("\nValueError: no\nTraceback") == "ValueError: no"
    assert first_line("x" * 80, 10) == "xxxxxxxxx…"
    assert first_line(None) == "-"


def test_columns_are_aligned_and_figures_stand_on_the_right() -> None:
    assert table(("NAME", "N", "STATE"), [("a", "1", "ready"), ("longer", "100", "")]) == [
        "NAME      N  STATE",
        "a         1  ready",
        "longer  100",
    ]


def test_a_table_may_be_empty() -> None:
    assert table(("NAME", "N"), []) == ["NAME  N"]


def test_labels_stand_on_the_right_of_their_column() -> None:
    assert fields({"Queue": "1", "Requests": "2"}) == ["     Queue  1", "  Requests  2"]


def test_a_traceback_keeps_its_lines_and_loses_its_control_characters() -> None:
    assert block("one\n  two\x1b\n") == ["    one", "      two\\x1b"]
