"""What was measured, and the arithmetic on it: medians of the rounds, ratios round by round."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from statistics import median

from benchmarks.measurement import Measurement

OURS = ("tsd", "tsd+log")
"""Targets that are tsd, the second one with TorchServe's access log; all others are yardsticks."""

Cell = tuple[str, int]
Property = Callable[[Measurement], float]

PROPERTIES: dict[str, Property] = {
    "requests_per_s": lambda one: one.requests_per_s,
    "p50": lambda one: one.p50_ms,
    "cpu": lambda one: one.total_cpu_s,
    "daemon_cpu": lambda one: one.cpu_s.get("daemon", one.total_cpu_s),
    "worker_cpu": lambda one: one.cpu_s.get("workers", one.total_cpu_s),
}


@dataclass(frozen=True)
class Figure:
    """Something that is measured once a run, whatever the load."""

    name: str
    value: float
    unit: str
    about: str


@dataclass(frozen=True)
class Grown:
    """What a request, or each MiB of it, costs at one size of what grows.

    `ratio`: to the smallest size, the median of the rounds'."""

    what: str
    size: int
    cpu_us: float
    ratio: float


@dataclass(frozen=True)
class Ratio:
    """tsd ÷ a yardstick in one cell: the medians of the rounds' ratios."""

    workload: str
    concurrency: int
    target: str
    yardstick: str
    requests_per_s: float
    p50: float
    cpu: float
    daemon_cpu: float
    worker_cpu: float


@dataclass(frozen=True)
class Results:
    """All of a run. Measurements stand in the order of the rounds."""

    measurements: Sequence[Measurement]
    figures: Sequence[Figure] = ()
    # What could not be measured.
    failures: Sequence[str] = ()
    growth: Sequence[Grown] = ()

    def cells(self) -> dict[Cell, dict[str, list[Measurement]]]:
        """The rounds of each target, by workload and concurrency."""
        cells: dict[Cell, dict[str, list[Measurement]]] = {}
        for one in self.measurements:
            by_target = cells.setdefault((one.workload, one.concurrency), {})
            by_target.setdefault(one.target, []).append(one)
        return cells

    def rounds(self, workload: str, concurrency: int, target: str) -> list[Measurement]:
        """What one target did in one cell, round by round; none where it was not asked."""
        return self.cells().get((workload, concurrency), {}).get(target, [])

    def figure(self, name: str) -> float | None:
        """A figure's value; None where it was not measured."""
        return next((one.value for one in self.figures if one.name == name), None)

    def grown_ratio(self, what: str, size: int) -> float | None:
        """How much more a request costs at that size; None where it was not measured."""
        found = (one.ratio for one in self.growth if (one.what, one.size) == (what, size))
        return next(found, None)

    def ratios(self) -> list[Ratio]:
        """tsd against every yardstick of its cell."""
        found = []
        for (workload, concurrency), by_target in self.cells().items():
            for target in by_target.keys() & set(OURS):
                for name in by_target.keys() - set(OURS):
                    pair = by_target[target], by_target[name]
                    of = {key: median_ratio(*pair, value) for key, value in PROPERTIES.items()}
                    if name == "raw" and concurrency > 1:
                        # It has no queue: its time is that of a batch.
                        of["p50"] = math.nan
                    found.append(Ratio(workload, concurrency, target, name, **of))
        return sorted(found, key=lambda one: (one.workload, one.concurrency, one.target))


def median_ratio(
    ours: Iterable[Measurement], theirs: Iterable[Measurement], value: Property
) -> float:
    """The median of the rounds' ratios: what disturbs one round disturbs both sides of it."""
    # Where a run was cut short, the last round is not whole.
    pairs = [(value(our), value(their)) for our, their in zip(ours, theirs, strict=False)]
    return median(our / their if their else float("nan") for our, their in pairs)
