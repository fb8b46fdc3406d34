"""One cell of the bench: a workload, a concurrency and a target, measured for some seconds."""

from __future__ import annotations

import contextlib
import json
import math
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

from benchmarks.daemon import Tsd
from benchmarks.load import Load, Outcome, cores, parse, run_grpc, run_uploads, run_wrk
from benchmarks.servers import Counts, Raw, Yardstick
from benchmarks.workloads import Door, Workload

# What looks at a process takes a while to begin; the load goes on for longer.
LEAD_S = 3

Target = Yardstick | Tsd | Raw


@dataclass(frozen=True)
class Ask:
    """What every target of a round is asked alike."""

    workload: Workload
    body_file: Path
    concurrency: int
    seconds: int
    # Requests of a connection that are on their way at once.
    pipelined: int = 1


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
    p999_ms: float = math.nan

    @property
    def total_cpu_s(self) -> float:
        return sum(self.cpu_s.values())


def measure(target: Target, ask: Ask) -> Measurement:
    """Ask the target for the seconds of `ask`."""
    if isinstance(target, Raw):
        return _measure_raw(target, ask)
    load = Load(
        target.url(ask.workload),
        ask.body_file,
        ask.workload.content_type,
        ask.concurrency,
        ask.seconds,
        ask.pipelined,
    )
    before = target.counts(ask.workload)
    outcome = _send(ask.workload, load)
    return measured(target.name, ask, outcome, between(before, target.counts(ask.workload)))


def _send(workload: Workload, load: Load) -> Outcome:
    _, core = cores()
    if workload.door is Door.GRPC:
        return run_grpc(load, core)
    return run_uploads(load, core) if workload.is_upload else run_wrk(load, core)


@contextlib.contextmanager
def under_load(target: Target, ask: Ask) -> Iterator[Future[Measurement]]:
    """Load from here to the end of the block, and for some seconds more."""
    with ThreadPoolExecutor(1) as thread:
        yield thread.submit(measure, target, replace(ask, seconds=ask.seconds + LEAD_S))


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
        requests=round(outcome.requests),
        requests_per_s=outcome.requests / outcome.seconds,
        p50_ms=outcome.p50_ms,
        p99_ms=outcome.p99_ms,
        failed=outcome.failed,
        cpu_s={part: seconds / thousands for part, seconds in used.cpu_s.items()},
        mean_batch=used.rows / used.batches if used.batches else None,
        note=outcome.note,
        p999_ms=outcome.p999_ms,
    )


def _measure_raw(target: Raw, ask: Ask) -> Measurement:
    rows = min(ask.concurrency, ask.workload.batch_size)
    figures = target.run(rows, ask.seconds)
    outcome = parse(json.dumps(figures))
    batches = round(outcome.requests / rows)
    used = Counts({"model": figures["cpu_s"]}, batches * rows, batches)
    return measured(target.name, ask, outcome, used)
