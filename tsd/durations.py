"""How long something takes, as people write it: `90`, `30s`, `10min`, `1h 30min`."""

from __future__ import annotations

import re

UNITS = {
    **dict.fromkeys(("ms", "msec"), 0.001),
    **dict.fromkeys(("", "s", "sec", "second", "seconds"), 1.0),
    **dict.fromkeys(("m", "min", "minute", "minutes"), 60.0),
    **dict.fromkeys(("h", "hr", "hour", "hours"), 3_600.0),
    **dict.fromkeys(("d", "day", "days"), 86_400.0),
}
"""systemd's words, as far as they are short enough to be meant here."""

PART = re.compile(r"([0-9]+(?:\.[0-9]+)?) *([a-z]*) *", re.ASCII)


def seconds(text: str) -> float:
    """The duration; ValueError where it is none."""
    total, position = 0.0, 0
    text = text.strip()
    while part := PART.match(text, position):
        if part[2] not in UNITS:
            break
        total += float(part[1]) * UNITS[part[2]]
        position = part.end()
    if not text or position < len(text):
        raise ValueError(f"{text!r} is no duration: write 90, 30s, 10min or 1h")
    return total
