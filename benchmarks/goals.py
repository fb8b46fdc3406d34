"""What must hold, what would be better, and how each is computed from a run.

Only what this harness measures; other servers are in peers/."""

from __future__ import annotations

import enum
from collections.abc import Callable
from dataclasses import dataclass

from benchmarks.results import PROPERTIES, Results, median_ratio

Computed = Callable[[Results], float | None]


class Bound(enum.Enum):
    """On which side of it a figure must lie."""

    AT_LEAST = "≥"
    AT_MOST = "≤"


@dataclass(frozen=True)
class Goal:
    """One figure. `stretch`: what is to be reached where it can."""

    about: str
    bound: Bound
    must: float
    stretch: float
    computed: Computed

    def is_within(self, value: float, limit: float) -> bool:
        """Whether the value is as good as the limit."""
        return value >= limit if self.bound is Bound.AT_LEAST else value <= limit

    def verdict(self, value: float | None) -> str:
        """In words; a value that is no number is not good."""
        if value is None:
            return "not measured"
        if not self.is_within(value, self.must):
            return "NOT MET"
        return "stretch met" if self.is_within(value, self.stretch) else "must met"


def against(
    workload: str, concurrency: int, yardstick: str, name: str, target: str = "tsd"
) -> Computed:
    """tsd's ÷ the yardstick's, in one cell; `name` is one of PROPERTIES."""

    def compute(results: Results) -> float | None:
        ours = results.rounds(workload, concurrency, target)
        theirs = results.rounds(workload, concurrency, yardstick)
        return median_ratio(ours, theirs, PROPERTIES[name]) if ours and theirs else None

    return compute


def gain(workload: str, other: str, concurrency: int) -> Computed:
    """How many times more requests tsd answers of one workload than of another."""

    def compute(results: Results) -> float | None:
        ours, theirs = (results.rounds(one, concurrency, "tsd") for one in (workload, other))
        return median_ratio(ours, theirs, PROPERTIES["requests_per_s"]) if ours and theirs else None

    return compute


def figure(name: str) -> Computed:
    """One of figures.py's."""
    return lambda results: results.figure(name)


def growth(what: str, size: int) -> Computed:
    """A request's cost at that size of what grows ÷ that at the smallest."""
    return lambda results: results.grown_ratio(what, size)


def at_least(about: str, must: float, stretch: float, computed: Computed) -> Goal:
    return Goal(about, Bound.AT_LEAST, must, stretch, computed)


def at_most(about: str, must: float, stretch: float, computed: Computed) -> Goal:
    return Goal(about, Bound.AT_MOST, must, stretch, computed)


def all_goals() -> list[Goal]:
    """In the order in which people ask."""
    return [
        *_noop("no-op", "tsd"),
        *_noop("no-op with access log", "tsd+log"),
        at_most("logs + metrics + deadlines, µs a request", 3, 2, figure("extras_us")),
        *_mlp(),
        *_resnet(),
        *_uploads(),
        *_processes(),
        at_most("1,000 models, one used: CPU ÷ 1 model", 1.05, 1.01, growth("models", 1_000)),
    ]


def _noop(about: str, target: str) -> list[Goal]:
    def floor(concurrency: int, name: str) -> Computed:
        return against("noop", concurrency, "floor", name, target)

    return [
        at_least(f"{about}, c 64: requests/s ÷ floor", 0.60, 0.80, floor(64, "requests_per_s")),
        at_most(f"{about}, c 64: CPU ÷ floor", 1.6, 1.35, floor(64, "cpu")),
        at_least(f"{about}, c 16: requests/s ÷ floor", 0.40, 0.50, floor(16, "requests_per_s")),
        at_most(f"{about}, c 16: CPU ÷ floor", 2.4, 2.0, floor(16, "cpu")),
        at_most(f"{about}, c 1: p50 ÷ floor", 1.8, 1.5, floor(1, "p50")),
    ]


def _mlp() -> list[Goal]:
    rate = against("mlp", 64, "floor", "requests_per_s")
    return [
        at_least("MLP, c 64: requests/s ÷ floor", 0.33, 0.40, rate),
        at_most("MLP, c 64: CPU ÷ floor", 3.5, 3.0, against("mlp", 64, "floor", "cpu")),
        at_least("MLP, c 64: batches of 32 ÷ one at a time", 6, 8, gain("mlp", "mlp1", 64)),
    ]


def _resnet() -> list[Goal]:
    cells = (("ResNet-18, 1 worker", "resnet", 4), ("ResNet-18, 2 workers", "resnet2", 8))
    return [
        at_least(
            f"{about}: served ÷ raw", 0.97, 0.99, against(workload, c, "raw", "requests_per_s")
        )
        for about, workload, c in cells
    ]


def _uploads() -> list[Goal]:
    goals = []
    for mebibytes, most in ((4, 16), (64, 2)):
        for kind, yardstick in (("tcp", "recv"), ("unix", "recv-unix")):
            for c in (1, most):
                about = f"{mebibytes} MiB, {kind}, c {c}"
                cell = f"length{mebibytes}-{kind}", c, yardstick
                cpu, rate = against(*cell, "cpu"), against(*cell, "requests_per_s")
                goals.append(at_most(f"{about}: CPU a byte ÷ recv loop", 1.25, 1.1, cpu))
                goals.append(at_least(f"{about}: bytes/s ÷ recv loop", 0.85, 0.95, rate))
    return goals


def _processes() -> list[Goal]:
    return [
        at_most("worker ready after one operator, ms", 25, 12, figure("worker_ready_ms")),
        at_least("the same: a fresh interpreter ÷ it", 80, 80, figure("fresh_ratio")),
        at_most("private memory of one more worker, MB", 8, 4, figure("worker_private_mb")),
        at_most("3 workers of 400 MB ÷ (it + torch)", 1.25, 1.1, figure("shared_ratio")),
        at_most("worker killed mid-batch: seen, ms", 5, 1, figure("kill_seen_ms")),
        at_most("the same: replacement serving, ms", 60, 30, figure("replacement_ms")),
        at_most("daemon accepting after its start, s", 0.3, 0.2, figure("accepting_s")),
        at_most("daemon's resident memory, idle, MB", 60, 45, figure("daemon_rss_mb")),
        at_most("wake-ups/s of an idle process, most", 5, 1, figure("idle_wakeups")),
    ]
