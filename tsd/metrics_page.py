"""tsd's own part of the page that Prometheus reads: the figures of metrics.py, as they stand.

Written out here: with the library's objects for each sample the page of 1,000 models takes half a
second of the interpreter, which the loop waits for. Names and labels are part of the interface:
see tsd-metrics(7)."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass, field

from tsd.metrics import Histogram, ModelSnapshot

ESCAPES = str.maketrans({"\\": r"\\", "\n": r"\n", '"': r"\""})


@dataclass(frozen=True, slots=True)
class Family:
    """One metric: its samples' names, labels and values, in the page's text."""

    name: str
    about: str
    kind: str
    lines: list[str] = field(default_factory=list)

    def add(self, labels: str, value: float, suffix: str = "") -> None:
        """One sample."""
        braces = f"{{{labels}}}" if labels else ""
        self.lines.append(f"{self.name}{suffix}{braces} {float(value)!r}\n")

    def add_histogram(self, labels: str, histogram: Histogram) -> None:
        """The samples of one histogram."""
        buckets = histogram.cumulative()
        for bound, count in buckets:
            self.add(f'{labels},le="{bound}"', count, "_bucket")
        self.add(labels, buckets[-1][1], "_count")
        self.add(labels, histogram.total, "_sum")

    def text(self, names: Collection[str]) -> str:
        """As it stands on the page; `names`: only samples of these names, where any are given."""
        lines = self.lines
        if names:
            lines = [line for line in lines if line.partition("{")[0].partition(" ")[0] in names]
            if not lines:
                return ""
        head = f"# HELP {self.name} {self.about}\n# TYPE {self.name} {self.kind}\n"
        return head + "".join(lines)


def page(
    snapshots: Iterable[ModelSnapshot], connections: int, names: Collection[str] = ()
) -> bytes:
    """tsd's own part of the metrics page, in Prometheus' text format; `names`: these only."""
    models = [(_labels(model=one.name, version=one.version), one) for one in snapshots]
    families = (*_counters(models), *_gauges(models), *_histograms(models), _open(connections))
    return "".join(family.text(names) for family in families).encode()


Models = list[tuple[str, ModelSnapshot]]
"""Each with its labels."""


def _labels(**values: str) -> str:
    return ",".join(f'{name}="{value.translate(ESCAPES)}"' for name, value in values.items())


def _counters(models: Models) -> Iterator[Family]:
    requests = Family("tsd_requests_total", "Predictions answered or refused.", "counter")
    errors = Family("tsd_errors_total", "Predictions that ended with an error.", "counter")
    retries = Family("tsd_retries_total", "Jobs given to another worker.", "counter")
    restarts = Family("tsd_worker_restarts_total", "Dead workers replaced.", "counter")
    for labels, model in models:
        requests.add(labels, model.figures.requests)
        retries.add(labels, model.figures.retries)
        restarts.add(labels, model.restarts)
        for code, count in list(model.figures.errors.items()):
            errors.add(f"{labels},{_labels(code=code)}", count)
    yield from (requests, errors, retries, restarts)


def _gauges(models: Models) -> Iterator[Family]:
    depth = Family("tsd_queue_depth", "Jobs that wait for a worker.", "gauge")
    ready = Family("tsd_model_ready", "Whether the model is ready.", "gauge")
    arena = Family("tsd_arena_bytes", "Bytes of requests held.", "gauge")
    workers = Family("tsd_workers", "Workers by state.", "gauge")
    memory = Family("tsd_gpu_bytes", "GPU memory of workers.", "gauge")
    for labels, model in models:
        depth.add(labels, model.queue_depth)
        ready.add(labels, model.is_ready)
        arena.add(labels, model.arena_bytes)
        for state, count in model.workers.items():
            workers.add(f'{labels},state="{state}"', count)
        for (worker, device, kind), held in model.gpu_bytes.items():
            memory.add(f"{labels},{_labels(worker=worker, device=device, kind=kind)}", held)
    yield from (depth, ready, arena, workers, memory)


def _histograms(models: Models) -> Iterator[Family]:
    latency = Family("tsd_request_seconds", "From accept to answer.", "histogram")
    queue = Family("tsd_queue_seconds", "Waiting for a worker.", "histogram")
    rows = Family("tsd_batch_rows", "Jobs in a batch.", "histogram")
    for labels, model in models:
        latency.add_histogram(labels, model.figures.latency_s)
        queue.add_histogram(labels, model.figures.queue_s)
        rows.add_histogram(labels, model.figures.batch_rows)
    yield from (latency, queue, rows)


def _open(connections: int) -> Family:
    family = Family("tsd_connections", "Open client connections.", "gauge")
    family.add("", connections)
    return family
