"""A line of a worker's standard output or standard error: its text, and what it is about.

What the worker's own streams and its logging write begins with a mark and a head; what a library
in C or a program that the handler started writes has none. A text of several lines, a traceback,
is one line on the pipe. The daemon believes a head only where every field has the right form, and
model, version and worker it knows by itself."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

MARK, UNIT, BREAK = "\x1e", "\x1f", "\x1d"
LEVELS = ("debug", "info", "warning", "error", "critical")
MAX_IDS = 128
MAX_LOGGER_CHARACTERS = 128
MAX_HEAD_BYTES = 6_144
"""Room for so many ids, of 36 characters each, and a logger's name."""
IDS = re.compile(rf"(?:[0-9A-Za-z-]{{1,36}}(?:,(?=.)|\Z)){{0,{MAX_IDS}}}")


@dataclass(frozen=True, slots=True)
class Line:
    """`level` is empty where only the stream tells it; `request_ids` are joined by commas."""

    text: str
    level: str = ""
    request_ids: str = ""
    logger: str = ""


def pack_line(text: str, request_ids: Sequence[str], level: str = "", logger: str = "") -> str:
    """What is written to the pipe for one line, or for one text of several."""
    ids = ",".join(request_ids[:MAX_IDS])
    fields = UNIT.join((level, ids, logger[:MAX_LOGGER_CHARACTERS], text))
    return f"{MARK}{fields}".replace("\n", BREAK) + "\n"


def unpack_line(line: bytes) -> Line:
    """What a line from the pipe says, its last newline taken off; whatever it is, there is one."""
    text = line.decode(errors="replace")
    if text.startswith(MARK):
        level, *fields = text[1:].split(UNIT, 3)
        if len(fields) == 3 and (not level or level in LEVELS) and IDS.fullmatch(fields[0]):
            ids, logger, text = fields
            return Line(text.replace(BREAK, "\n"), level, ids, logger[:MAX_LOGGER_CHARACTERS])
    return Line(text)
