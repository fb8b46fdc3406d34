"""Numbers and times on the command line, within their bounds."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import TypeVar

Number = TypeVar("Number", int, float)


def bounded(least: Number, most: Number) -> Callable[[str], Number]:
    """Reads a number within these bounds, a whole one where they are."""

    def read(word: str) -> Number:
        try:
            found = type(least)(word)
        except ValueError:
            found = least - 1
        if not least <= found <= most:
            what = f"{word!r} is not a number from {least:g} to {most:g}"
            raise argparse.ArgumentTypeError(what)
        return found

    return read


def several(least: int, most: int) -> Callable[[str], tuple[int, ...]]:
    """Reads whole numbers with commas between."""
    return lambda words: tuple(map(bounded(least, most), words.split(",")))


def milliseconds(word: str) -> float:
    """A time: 50ms, 1.5s."""
    number, factor = (word[:-2], 1.0) if word.endswith("ms") else (word.removesuffix("s"), 1000.0)
    try:
        found = float(number) * factor
    except ValueError:
        found = 0.0
    if number == word or not 0 < found < float("inf"):
        raise argparse.ArgumentTypeError(f"{word!r} is no time: write 50ms or 1.5s")
    return found
