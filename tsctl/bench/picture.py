"""What was measured, as a table and as a curve for a terminal."""

from __future__ import annotations

import math
from collections.abc import Sequence
from string import ascii_letters

from tsctl.bench.search import Goal, Point, Setting
from tsctl.format import cell, table

WIDTH, HEIGHT = 64, 12
NOTES = {
    "has_others": "* others asked the model, too: its own figures are better",
    "is_limited": "+ the load generator was at its limit: the model can do more",
    "refused": "! requests were refused",
}


def table_lines(points: Sequence[Point], goal: Goal) -> list[str]:
    """A row for each point, its letter in the curve first, and what the signs mean."""
    marks = letters(points)
    tail = f"{goal.tail.upper()} MS"
    headings = ("", "WORKERS", "BATCH", "CLIENTS", "REQ/S", "P50 MS", tail)
    rows = [[marks[point.setting], *_row(point)] for point in points]
    notes = [text for name, text in NOTES.items() if any(getattr(p, name) for p in points)]
    return [*table((*headings, "MEAN BATCH", "CPU"), rows), *notes]


def _row(point: Point) -> list[str]:
    signs = "".join(text[0] for name, text in NOTES.items() if getattr(point, name))
    return [
        cell(point.setting.workers),
        cell(point.setting.batch_size),
        cell(point.clients),
        f"{point.per_second:.1f}{signs}",
        f"{point.p50_ms:.2f}",
        f"{point.tail_ms:.2f}",
        f"{point.mean_batch:.1f}",
        f"{point.processors:.2f}",
    ]


def setting_text(setting: Setting) -> str:
    workers = "1 worker" if setting.workers == 1 else f"{setting.workers} workers"
    return f"{workers}, batches of up to {setting.batch_size}"


def letters(points: Sequence[Point]) -> dict[Setting, str]:
    """One for each setting; there are never as many settings as letters."""
    settings = dict.fromkeys(point.setting for point in points)
    return dict(zip(settings, ascii_letters, strict=False))


def curve_lines(points: Sequence[Point], goal: Goal) -> list[str]:
    """Latency, on a scale of powers, against requests per second; the target is a line."""
    marks, target = letters(points), goal.latency_ms
    # Where all were refused there is no latency.
    points = [point for point in points if point.tail_ms]
    if not points:
        return []
    seen = [point.tail_ms for point in points] + ([target] if target else [])
    low, high = math.log(min(seen)), math.log(max(seen))
    most = max(point.per_second for point in points) or 1.0

    def height(latency_ms: float) -> int:
        return round((math.log(latency_ms) - low) / ((high - low) or 1.0) * (HEIGHT - 1))

    rows = [[" "] * WIDTH for _ in range(HEIGHT)]
    if target:
        rows[height(target)] = ["-"] * WIDTH
    for point in points:
        rows[height(point.tail_ms)][round(point.per_second / most * (WIDTH - 1))] = marks[
            point.setting
        ]
    labels = {0: f"{min(seen):.2f}", HEIGHT - 1: f"{max(seen):.2f}"}
    if target:
        labels[height(target)] = f"{target:.2f}"
    drawn = [
        f"{labels.get(number, ''):>10} |{''.join(row).rstrip()}" for number, row in enumerate(rows)
    ]
    foot = f"0{'requests/s':^{WIDTH - 12}}{most:>10.1f}"
    return [
        f"{goal.tail + ' ms':>10}",
        *reversed(drawn),
        f"{'':>10} +{'-' * WIDTH}",
        " " * 12 + foot,
    ]
