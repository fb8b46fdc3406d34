"""How a value stands in config.properties, and how in tsd's settings: both ways."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Form:
    """One way to write a value. `read` raises ValueError, which says what is wrong."""

    read: Callable[[str], object]
    write: Callable[[Any], str]


def _flag(text: str) -> bool:
    """As Java reads it: what is not `true` is false."""
    return text.lower() == "true"


def _number(text: str) -> int:
    try:
        return int(text)
    except ValueError:
        raise ValueError("it is not a whole number") from None


def _decimal(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise ValueError("it is not a number") from None


def _json(text: str) -> str:
    """On one line, whatever breaks and blanks the file has."""
    try:
        return json.dumps(json.loads(text), separators=(",", ":"))
    except (ValueError, RecursionError) as error:
        raise ValueError(f"it is not JSON: {error}") from None


def _words(text: str) -> tuple[str, ...]:
    return tuple(word.strip() for word in text.split(",") if word.strip())


def _plain(value: float) -> str:
    """Without the `.0` that TorchServe's whole numbers do not take."""
    return str(int(value)) if value == int(value) else str(value)


def _flag_text(value: object) -> str:
    return "true" if value else "false"


# Longer times, which people write who mean for ever, are no setting (settings.py).
DAY_S, YEAR_S = 86_400.0, 31_536_000.0

TEXT = Form(str, str)
WORD = Form(str.lower, str)
FLAG = Form(_flag, _flag_text)
OPPOSITE = Form(lambda text: not _flag(text), lambda value: _flag_text(not value))
NUMBER = Form(_number, str)
SECONDS = Form(lambda text: min(float(_number(text)), DAY_S), _plain)
MILLISECONDS = Form(lambda text: _number(text) / 1000, lambda value: str(round(value * 1000)))
MINUTES = Form(lambda text: min(_decimal(text) * 60, YEAR_S), lambda value: _plain(value / 60))
JSON = Form(_json, str)
WORDS = Form(_words, ",".join)
