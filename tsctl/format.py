"""Values as text that is safe and pleasant on a terminal.

Pure functions: where the text goes, and whether it may have colours, is console.py's decision."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

COLOURS = {"red": "31", "green": "32", "yellow": "33", "dim": "2", "bold": "1"}

STATE_COLOURS = {
    "ready": "green",
    "idle": "green",
    "busy": "green",
    "starting": "yellow",
    "loading": "yellow",
    "draining": "yellow",
    "stopping": "yellow",
    "failed": "red",
    "exited": "red",
    "unloaded": "dim",
}

BYTE_UNITS = ("B", "KiB", "MiB", "GiB", "TiB")


def escape(text: str, keep: str = "") -> str:
    """The text without a character that could steer a terminal, except those in `keep`."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() or c in keep else _escaped(c) for c in text)


def _escaped(character: str) -> str:
    return character.encode("unicode_escape").decode("ascii")


def cell(value: object) -> str:
    """A value as one safe word or line; what is absent is a dash."""
    if value is None or value == "":
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    return escape(f"{value:.4g}" if isinstance(value, float) else str(value))


def byte_count(value: object) -> str:
    """A number of bytes in the largest unit that leaves a figure before the point."""
    if not isinstance(value, int | float):
        return "-"
    size, unit = float(value), 0
    while size >= 1024 and unit < len(BYTE_UNITS) - 1:
        size, unit = size / 1024, unit + 1
    return f"{size:.0f} {BYTE_UNITS[unit]}" if unit == 0 else f"{size:.1f} {BYTE_UNITS[unit]}"


def duration(value: object) -> str:
    """Seconds as a person would say them: two units at most."""
    if not isinstance(value, int | float):
        return "-"
    if value < 60:
        return f"{value:.1f} s"
    minutes, seconds = divmod(int(value), 60)
    hours, minutes = divmod(minutes, 60)
    days, hours = divmod(hours, 24)
    if days:
        return f"{days} d {hours} h"
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {seconds} s"


def milliseconds(value: object) -> str:
    """A duration that is given in milliseconds."""
    return f"{value:.1f} ms" if isinstance(value, int | float) else "-"


def first_line(text: object, limit: int = 60) -> str:
    """The first line of a text, clipped; a dash where there is none."""
    line = str(text or "").strip().partition("\n")[0]
    return cell(line if len(line) <= limit else line[: limit - 1] + "…")


def table(headings: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    """Columns aligned under their headings; those of figures on the right."""
    cells = [tuple(headings), *map(tuple, rows)]
    columns = list(zip(*cells, strict=True))
    widths = [max(map(len, column)) for column in columns]
    is_figure = [all(text[:1].isdigit() or text == "-" for text in c[1:]) for c in columns]
    return [
        "  ".join(
            text.rjust(width) if right else text.ljust(width)
            for text, width, right in zip(row, widths, is_figure, strict=True)
        ).rstrip()
        for row in cells
    ]


def fields(pairs: Mapping[str, str]) -> list[str]:
    """Labels on the right of their column, values beside them."""
    width = max(map(len, pairs), default=0)
    return [f"  {label.rjust(width)}  {text}" for label, text in pairs.items()]


def block(text: str) -> list[str]:
    """A text of several lines, a traceback, safe and set in."""
    return ["    " + escape(line, keep="\t") for line in text.rstrip().split("\n")]
