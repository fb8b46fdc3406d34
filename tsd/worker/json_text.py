"""JSON in and out of handlers: the values and the bytes of Python's own `json`, at orjson's speed.

orjson does the work where its result is known to be the same; wherever the two might differ, and
in runtimes without it, `json` does. What is JSON and what is not is decided in codec.py."""

from __future__ import annotations

import json
from typing import Any

try:
    import orjson
except ImportError:  # pragma: no cover (a runtime without orjson)
    orjson = None  # type: ignore[assignment]

# Every digit becomes 0, so that a run of digits can be found by plain search.
DIGITS_TO_ZEROS = bytes(48 if 48 <= code <= 57 else code for code in range(256))

# The shortest integer that orjson would turn into a float has 19 digits.
LONG_NUMBER = b"0" * 19
FRACTION = b"." + b"0" * 18

DEL, LETTER_E, LETTER_U = b"\x7feu"

if orjson is not None:
    DUMP_OPTIONS = (
        orjson.OPT_INDENT_2 | orjson.OPT_PASSTHROUGH_DATACLASS | orjson.OPT_PASSTHROUGH_DATETIME
    )


def loads(text: bytes | bytearray | memoryview) -> Any:
    """The value of UTF-8 JSON text; ValueError or RecursionError where there is none."""
    if orjson is not None:
        try:
            if not _may_hold_long_integer(text):
                return orjson.loads(text)
        except ValueError:
            pass  # NaN, lone surrogates, 1e400: Python's parser takes more than the standard says
    return json.loads(str(text, "utf-8"))


def dumps(value: Any) -> bytes:
    """JSON text exactly as `json.dumps(value, indent=2)`; TypeError, ValueError if impossible."""
    if orjson is not None:
        text = _fast_dumps(value)
        if text is not None:
            return text
    return json.dumps(value, indent=2).encode("ascii")


def _may_hold_long_integer(text: bytes | bytearray | memoryview) -> bool:
    zeros = bytes(text).translate(DIGITS_TO_ZEROS)
    # Fractions are long in every list of doubles; they are taken out before the last word.
    return LONG_NUMBER in zeros and LONG_NUMBER in zeros.replace(FRACTION, b".")


def _fast_dumps(value: Any) -> bytes | None:
    """The text, or None where orjson might spell it otherwise than `json`.

    Known differences: escapes of what is not ASCII (and of DEL), NaN as null, exponents, and
    numbers from 1e-5 to 1e-4, which orjson writes without one."""
    try:
        text: bytes = orjson.dumps(value, option=DUMP_OPTIONS)
    except TypeError:
        return None
    # A search for one code takes a tenth of one for bytes, so that comes first where it can.
    is_same = (
        text.isascii()
        and DEL not in text
        and (LETTER_U not in text or b"null" not in text)
        and (LETTER_E not in text or b"0e" not in text.translate(DIGITS_TO_ZEROS))
        and b"0.0000" not in text
    )
    return text if is_same else None
