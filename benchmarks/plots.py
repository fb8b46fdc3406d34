"""Pictures of a run: throughput against concurrency, latency against load; an SVG a workload.

And one of what requests cost as other things grow."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from benchmarks.results import Grown, Results


@dataclass(frozen=True)
class Point:
    """The medians of one target at one concurrency."""

    concurrency: int
    requests_per_s: float
    p50_ms: float
    p99_ms: float


Curves = dict[str, list[Point]]
"""By target, in the order of the concurrencies."""


def curves(results: Results) -> dict[str, Curves]:
    """By workload; one with a single concurrency has no curve."""
    found: dict[str, Curves] = {}
    for (workload, concurrency), by_target in sorted(results.cells().items()):
        for target, rounds in by_target.items():
            point = Point(
                concurrency,
                median(one.requests_per_s for one in rounds),
                median(one.p50_ms for one in rounds),
                median(one.p99_ms for one in rounds),
            )
            found.setdefault(workload, {}).setdefault(target, []).append(point)
    return {
        workload: by_target
        for workload, by_target in found.items()
        if any(len(points) > 1 for points in by_target.values())
    }


def draw(results: Results, folder: Path) -> Iterator[Path]:
    """One file for each workload that was measured at several concurrencies; one for growth."""
    import matplotlib as mpl

    mpl.use("svg")
    from matplotlib import pyplot

    for workload, by_target in curves(results).items():
        sheet, (left, right) = pyplot.subplots(1, 2, figsize=(11, 4), layout="constrained")
        for target, points in by_target.items():
            rates = [point.requests_per_s for point in points]
            left.plot([point.concurrency for point in points], rates, "o-", label=target)
            if target == "raw":
                continue
            (line,) = right.plot(rates, [point.p50_ms for point in points], "o-", label=target)
            p99 = [point.p99_ms for point in points]
            right.plot(rates, p99, "x:", color=line.get_color(), label=f"{target}, p99")
        left.set(xscale="log", yscale="log", xlabel="connections", ylabel="requests/s")
        right.set(xscale="log", yscale="log", xlabel="requests/s", ylabel="latency: p50, p99 (ms)")
        for axes in (left, right):
            axes.grid(visible=True, which="both", alpha=0.3)
            axes.legend()
        sheet.suptitle(workload)
        path = folder / f"{workload}.svg"
        sheet.savefig(path)
        pyplot.close(sheet)
        yield path
    if results.growth:
        yield _draw_growth(results.growth, folder / "growth.svg")


def _draw_growth(growth: Sequence[Grown], path: Path) -> Path:
    """What a request costs against the size of each thing: no curve should rise."""
    from matplotlib import pyplot

    sheet, axes = pyplot.subplots(figsize=(7, 4), layout="constrained")
    for what in dict.fromkeys(one.what for one in growth):
        points = [one for one in growth if one.what == what]
        axes.plot(
            [max(point.size, 1) for point in points],
            [point.ratio for point in points],
            "o-",
            label=f"{what}: {points[0].cpu_us:,.0f} µs at {points[0].size}",
        )
    axes.set(xscale="log", xlabel="how many, or how long", ylabel="CPU ÷ that of the smallest")
    axes.set_ylim(bottom=0)
    axes.grid(visible=True, which="both", alpha=0.3)
    axes.legend()
    sheet.savefig(path)
    pyplot.close(sheet)
    return path
