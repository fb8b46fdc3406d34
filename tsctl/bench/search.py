"""Which settings are measured, and which of them is the best.

Workers and batch sizes are doubled for as long as that helps; how a measurement is made is left to
whoever asks."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

# What is less than this is noise, not a gain.
WORTHWHILE = 1.05
MISSES = 2


@dataclass(frozen=True, order=True)
class Setting:
    """What a model is served with. Ordered by what it costs."""

    workers: int
    batch_size: int


@dataclass(frozen=True)
class Point:
    """One setting under one load."""

    setting: Setting
    clients: int
    per_second: float
    p50_ms: float
    tail_ms: float
    mean_batch: float = 0.0
    # Processors in use by the daemon and the model's workers.
    processors: float = 0.0
    refused: int = 0
    # Others asked the model at that time; the load could not have been larger.
    has_others: bool = False
    is_limited: bool = False


@dataclass(frozen=True)
class Goal:
    """What is asked for: the percentile, and the latency that it must keep, if any."""

    percentile: float
    latency_ms: float | None = None

    @property
    def tail(self) -> str:
        """How people call that percentile."""
        return f"p{self.percentile:g}"

    def is_met(self, point: Point) -> bool:
        return not point.refused and (self.latency_ms is None or point.tail_ms <= self.latency_ms)

    def is_far(self, point: Point) -> bool:
        """Whether a larger load need not be tried: even half of the answers are too late."""
        is_late = self.latency_ms is not None and point.p50_ms > self.latency_ms
        return is_late or point.refused > 0


@dataclass(frozen=True)
class Limits:
    """How far the search goes; `clients` in place of those that suit a setting."""

    workers: int
    batch_size: int
    clients: Sequence[int] = ()


Measure = Callable[[Setting, int], Point]


def explore(measure: Measure, goal: Goal, limits: Limits) -> list[Point]:
    """Measure more workers for as long as they bring more."""
    points: list[Point] = []
    for workers in doubling(limits.workers):
        found = _of_workers(workers, measure, goal, limits)
        is_better = _reached(found, goal) > WORTHWHILE * _reached(points, goal)
        points += found
        if not is_better:
            break
    return points


def _of_workers(workers: int, measure: Measure, goal: Goal, limits: Limits) -> list[Point]:
    """Measure larger batches for as long as they bring more."""
    points: list[Point] = []
    misses = 0
    for batch_size in doubling(limits.batch_size):
        found = _of_setting(Setting(workers, batch_size), measure, goal, limits)
        is_better = _reached(found, goal) > WORTHWHILE * _reached(points, goal)
        points += found
        misses = 0 if is_better else misses + 1
        if misses == MISSES:
            break
    return points


def _of_setting(setting: Setting, measure: Measure, goal: Goal, limits: Limits) -> list[Point]:
    points: list[Point] = []
    for clients in limits.clients or suitable(setting):
        points.append(measure(setting, clients))
        if goal.is_far(points[-1]):
            break
    return points


def suitable(setting: Setting) -> list[int]:
    """Loads from where batches begin to fill to where the next ones are full, too.

    Below that a smaller batch size does the same."""
    slots = setting.workers * setting.batch_size
    return sorted({max(1, slots // 4), max(1, slots // 2), slots, 2 * slots})


def doubling(most: int) -> list[int]:
    """1, 2, 4 and so on, and the most itself."""
    powers = [1 << power for power in range(most.bit_length())]
    return powers if powers[-1] == most else [*powers, most]


def best(points: Iterable[Point], goal: Goal) -> Point | None:
    """The most requests within the goal; of what is about as good, the cheapest setting."""
    good = [point for point in points if goal.is_met(point)]
    enough = _reached(good, goal) / WORTHWHILE
    candidates = [point for point in good if point.per_second >= enough]
    return min(candidates, key=lambda point: (point.setting, point.tail_ms), default=None)


def _reached(points: Iterable[Point], goal: Goal) -> float:
    return max((point.per_second for point in points if goal.is_met(point)), default=0.0)
