"""One cell of the bench: a workload, a concurrency and a target, measured for some seconds."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from benchmarks.load import Load, Outcome, cores, parse, run_uploads, run_wrk
from benchmarks.servers import Counts, Raw, Tsd, Yardstick
from benchmarks.workloads import Workload

Target = Yardstick | Tsd | Raw


@dataclass(frozen=True)
class Ask:
    """What every target of a round is asked alike."""

    workload: Workload
    body_file: Path
    concurrency: int
    seconds: int


@dataclass(frozen=True)
class Measurement:
    """What one target did with it. CPU seconds are per 1000 requests, by part of the process
    tree."""

    workload: str
    concurrency: int
    target: str
    requests: int
    requests_per_s: float
    p50_ms: float
    p99_ms: float
    failed: int
    cpu_s: dict[str, float]
    mean_batch: float | None
    note: str

    @property
    def total_cpu_s(self) -> float:
        return sum(self.cpu_s.values())


def measure(target: Target, ask: Ask) -> Measurement:
    """Ask the target for the seconds of `ask`."""
    if isinstance(target, Raw):
        return _measure_raw(target, ask)
    run = run_uploads if ask.workload.is_upload else run_wrk
    load = Load(
        target.url(ask.workload),
        ask.body_file,
        ask.workload.content_type,
        ask.concurrency,
        ask.seconds,
    )
    before = target.counts(ask.workload)
    outcome = run(load, cores()[1])
    return measured(target.name, ask, outcome, between(before, target.counts(ask.workload)))


def between(before: Counts, after: Counts) -> Counts:
    """What was used and done from one count to the next."""
    used = {part: after.cpu_s[part] - before.cpu_s[part] for part in after.cpu_s}
    return Counts(used, after.rows - before.rows, after.batches - before.batches)


def measured(name: str, ask: Ask, outcome: Outcome, used: Counts) -> Measurement:
    """The figures of a cell: per second, and per 1000 requests."""
    thousands = max(outcome.requests, 1) / 1000
    return Measurement(
        workload=ask.workload.name,
        concurrency=ask.concurrency,
        target=name,
        requests=outcome.requests,
        requests_per_s=outcome.requests / outcome.seconds,
        p50_ms=outcome.p50_ms,
        p99_ms=outcome.p99_ms,
        failed=outcome.failed,
        cpu_s={part: seconds / thousands for part, seconds in used.cpu_s.items()},
        mean_batch=used.rows / used.batches if used.batches else None,
        note=outcome.note,
    )


def _measure_raw(target: Raw, ask: Ask) -> Measurement:
    rows = min(ask.concurrency, ask.workload.batch_size)
    line = target.run(rows, ask.seconds)
    outcome = parse(line)
    used = Counts({"model": json.loads(line)["cpu_s"]}, outcome.requests, outcome.requests // rows)
    return measured(target.name, ask, outcome, used)
