"""Durations as people write them."""

from __future__ import annotations

import pytest

from tsd.durations import seconds


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("90", 90.0),
        ("0", 0.0),
        ("2.5", 2.5),
        ("30s", 30.0),
        ("10min", 600.0),
        ("10 min", 600.0),
        ("1h", 3_600.0),
        ("1h 30min", 5_400.0),
        ("1h30min", 5_400.0),
        ("2d", 172_800.0),
        ("500ms", 0.5),
        (" 1 m ", 60.0),
    ],
)
def test_a_duration_is_seconds_unless_it_says_otherwise(text: str, expected: float) -> None:
    assert seconds(text) == expected


@pytest.mark.parametrize(
    "text",
    ["", " ", "soon", "-5", "10 parsecs", "1h soon", "1,5h", "1e3", "inf", "nan", "10M", "٣"],
)
def test_what_is_no_duration_is_told(text: str) -> None:
    with pytest.raises(ValueError, match="is no duration: write 90, 30s, 10min or 1h"):
        seconds(text)
