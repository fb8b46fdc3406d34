"""The figures of a model, counted in own slots: that costs some tenths of a microsecond.

The page that Prometheus reads is made of them in metrics_page.py, when it is asked for."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol

LATENCY_BOUNDS_S = (
    *(0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25),
    *(0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0),
)
BATCH_BOUNDS = (1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0, 512.0, 1024.0)


class Histogram:
    """Counts by upper bound; the last slot counts what is above all bounds."""

    __slots__ = ("bounds", "counts", "total")

    def __init__(self, bounds: tuple[float, ...]) -> None:
        self.bounds = bounds
        self.counts = [0] * (len(bounds) + 1)
        self.total = 0.0

    def observe(self, value: float) -> None:
        """Count one value."""
        self.counts[bisect_left(self.bounds, value)] += 1
        self.total += value

    def observe_all(self, values: Sequence[float]) -> None:
        """Count some values, of which most or all fall into one slot, as those of a batch do."""
        bounds, counts = self.bounds, self.counts
        lowest = bisect_left(bounds, min(values))
        if lowest == bisect_left(bounds, max(values)):
            counts[lowest] += len(values)
        else:
            for value in values:
                counts[bisect_left(bounds, value)] += 1
        self.total += sum(values)

    @property
    def observed(self) -> int:
        """How many values were counted."""
        return sum(self.counts)

    def quantile(self, share: float) -> float | None:
        """The upper bound of the bucket that holds the quantile; None when nothing was counted."""
        rest = share * self.observed
        if not rest:
            return None
        for bound, count in zip(self.bounds, self.counts, strict=False):
            rest -= count
            if rest <= 0:
                return bound
        return self.bounds[-1]

    def cumulative(self) -> list[tuple[str, float]]:
        """Bucket name and count at or below it, as Prometheus wants them."""
        below, buckets = 0, []
        for name, count in zip([*map(str, self.bounds), "+Inf"], self.counts, strict=True):
            below += count
            buckets.append((name, float(below)))
        return buckets


@dataclass(slots=True, eq=False)
class Asked:
    """Predictions asked for under one name of a version: TorchServe counts them apart."""

    requests: int = 0
    latency_us: float = 0.0
    queue_us: float = 0.0
    last_queue_ms: float = 0.0
    answered_at: float = 0.0


class Timed(Protocol):
    """What is measured of a job: instants of `time.monotonic`."""

    @property
    def asked(self) -> Asked | None: ...
    @property
    def accepted_at(self) -> float: ...
    @property
    def queued_at(self) -> float: ...


@dataclass(slots=True)
class ModelFigures:
    """What one version of one model has done since it was loaded."""

    requests: int = 0
    retries: int = 0
    errors: dict[str, int] = field(default_factory=dict)
    # By the version in the path, or None. No more than two: the model has one version.
    asked: dict[str | None, Asked] = field(default_factory=dict)
    # What the last batch cost the daemon besides waiting for the worker.
    overhead_ms: float | None = None
    latency_s: Histogram = field(default_factory=lambda: Histogram(LATENCY_BOUNDS_S))
    queue_s: Histogram = field(default_factory=lambda: Histogram(LATENCY_BOUNDS_S))
    batch_rows: Histogram = field(default_factory=lambda: Histogram(BATCH_BOUNDS))

    def count_error(self, code: str) -> None:
        """One request ended with an error of that code."""
        self.errors[code] = self.errors.get(code, 0) + 1

    def count_asked(self, version: str | None) -> Asked:
        """One prediction was asked for, of that version or of the default one."""
        asked = self.asked.get(version)
        if asked is None:
            asked = self.asked[version] = Asked()
        asked.requests += 1
        return asked

    def count_refused(self, code: str, latency_s: float) -> None:
        """A prediction ended with an error of that code."""
        self.count_error(code)
        self.requests += 1
        self.latency_s.observe(latency_s)

    def count_answered(self, jobs: Sequence[Timed], left_at: float, now: float) -> None:
        """Jobs of one batch have got their answers. It had left the queue at `left_at`."""
        for asked in {job.asked for job in jobs}:
            if asked is None:
                continue
            own = [job for job in jobs if job.asked is asked]
            latencies_s = [now - job.accepted_at for job in own]
            self.requests += len(own)
            self.latency_s.observe_all(latencies_s)
            waits_s = [left_at - job.queued_at for job in own]
            asked.latency_us += sum(latencies_s) * 1e6
            asked.queue_us += sum(waits_s) * 1e6
            asked.last_queue_ms = waits_s[-1] * 1e3
            asked.answered_at = now


@dataclass(frozen=True, slots=True)
class ModelSnapshot:
    """One version of one model at the moment of the scrape."""

    name: str
    version: str
    figures: ModelFigures
    queue_depth: int
    workers: dict[str, int]
    restarts: int
    is_ready: bool
    arena_bytes: int
    # By number and device of the worker, and kind.
    gpu_bytes: dict[tuple[str, str, str], int] = field(default_factory=dict)
