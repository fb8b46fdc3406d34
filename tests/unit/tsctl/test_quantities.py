"""Numbers and times as people write them."""

from __future__ import annotations

import argparse

import pytest

from tsctl.quantities import bounded, milliseconds, several


@pytest.mark.parametrize(("word", "found"), [("50ms", 50.0), ("1s", 1000.0), ("0.5ms", 0.5)])
def test_a_time_in_milliseconds(word: str, found: float) -> None:
    assert milliseconds(word) == found


@pytest.mark.parametrize("word", ["", "50", "ms", "s", "-1ms", "0s", "infs", "nanms", "1min"])
def test_what_is_no_time_is_told(word: str) -> None:
    with pytest.raises(argparse.ArgumentTypeError, match="write 50ms"):
        milliseconds(word)


def test_a_number_within_its_bounds() -> None:
    assert bounded(1, 8)("8") == 8
    assert bounded(0.1, 8.0)("0.5") == 0.5
    assert several(1, 8)("1,2,8") == (1, 2, 8)


@pytest.mark.parametrize("word", ["0", "9", "x", "", "1.5", "nan"])
def test_a_number_beyond_them_is_told(word: str) -> None:
    with pytest.raises(argparse.ArgumentTypeError, match="from 1 to 8"):
        bounded(1, 8)(word)
    with pytest.raises(argparse.ArgumentTypeError, match="from 1 to 8"):
        several(1, 8)(f"2,{word}")
