"""What the measurements say: medians, ratios round by round, a table, a file."""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from statistics import median

from benchmarks.measurement import Measurement

Cell = tuple[str, int]
Figure = Callable[[Measurement], float]


@dataclass(frozen=True)
class Ratio:
    """tsd ÷ a yardstick in one cell: the medians of the rounds' ratios."""

    workload: str
    concurrency: int
    yardstick: str
    requests_per_s: float
    p50: float
    cpu: float
    daemon_cpu: float
    worker_cpu: float


FIGURES: dict[str, Figure] = {
    "requests_per_s": lambda one: one.requests_per_s,
    "p50": lambda one: one.p50_ms,
    "cpu": lambda one: one.total_cpu_s,
    "daemon_cpu": lambda one: one.cpu_s.get("daemon", one.total_cpu_s),
    "worker_cpu": lambda one: one.cpu_s.get("workers", one.total_cpu_s),
}


def ratios(measurements: Sequence[Measurement]) -> list[Ratio]:
    """tsd against every yardstick of its cell. Measurements stand in the order of the rounds."""
    found = []
    for (workload, concurrency), by_target in _cells(measurements).items():
        ours = by_target.get("tsd", [])
        for name, theirs in by_target.items():
            if name != "tsd" and ours:
                of = {key: median_ratio(ours, theirs, figure) for key, figure in FIGURES.items()}
                found.append(Ratio(workload, concurrency, name, **of))
    return found


def median_ratio(
    ours: Iterable[Measurement], theirs: Iterable[Measurement], figure: Figure
) -> float:
    """The median of the rounds' ratios: what disturbs one round disturbs both sides of it."""
    pairs = [(figure(our), figure(their)) for our, their in zip(ours, theirs, strict=True)]
    return median(our / their if their else float("nan") for our, their in pairs)


def table(measurements: Sequence[Measurement]) -> str:
    """Both tables in Markdown: the medians, then the ratios."""
    return f"{_medians(measurements)}\n\n{_ratios(ratios(measurements))}\n{_notes(measurements)}"


def machine() -> dict[str, object]:
    """What it ran on."""
    packages = ("torch", "uvloop", "httptools", "orjson")
    return {
        "cpu": _cpu_model(),
        "cores": len(os.sched_getaffinity(0)),
        "kernel": platform.release(),
        "python": platform.python_version(),
        **{package: version(package) for package in packages},
    }


def write_file(path: Path, facts: dict[str, object], measurements: Sequence[Measurement]) -> None:
    """Everything, for whoever compares two runs."""
    content = {
        **facts,
        "ratios": [asdict(ratio) for ratio in ratios(measurements)],
        "measurements": [asdict(one) for one in measurements],
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content, indent=1) + "\n")


def _cells(measurements: Iterable[Measurement]) -> dict[Cell, dict[str, list[Measurement]]]:
    cells: dict[Cell, dict[str, list[Measurement]]] = {}
    for one in measurements:
        by_target = cells.setdefault((one.workload, one.concurrency), {})
        by_target.setdefault(one.target, []).append(one)
    return cells


def _medians(measurements: Sequence[Measurement]) -> str:
    names = "workload | c | target | requests/s | p50 ms | p99 ms"
    rows = [
        f"{workload} | {concurrency} | {target} | {_figures(rounds)}"
        for (workload, concurrency), by_target in _cells(measurements).items()
        for target, rounds in by_target.items()
    ]
    return _markdown(f"{names} | CPU s/1000 | of which | mean batch | failed", rows, 3)


def _figures(rounds: Sequence[Measurement]) -> str:
    batches = [one.mean_batch for one in rounds if one.mean_batch is not None]
    parts = rounds[0].cpu_s
    split = [f"{part} {median(one.cpu_s[part] for one in rounds):.4f}" for part in parts]
    return " | ".join(
        [
            f"{median(one.requests_per_s for one in rounds):,.0f}",
            f"{median(one.p50_ms for one in rounds):.3f}",
            f"{median(one.p99_ms for one in rounds):.3f}",
            f"{median(one.total_cpu_s for one in rounds):.4f}",
            ", ".join(split) if len(split) > 1 else "",
            f"{median(batches):.1f}" if batches else "",
            str(sum(one.failed for one in rounds)),
        ]
    )


def _ratios(found: Iterable[Ratio]) -> str:
    names = "workload | c | tsd ÷ | requests/s | p50 | CPU | daemon's CPU | workers' CPU"
    rows = [
        f"{one.workload} | {one.concurrency} | {one.yardstick} | {one.requests_per_s:.3g} | "
        f"{one.p50:.3g} | {one.cpu:.3g} | {one.daemon_cpu:.3g} | {one.worker_cpu:.3g}"
        for one in found
    ]
    return _markdown(names, rows, 3)


def _markdown(names: str, rows: Iterable[str], words: int) -> str:
    """A table; all columns but the first `words` hold figures."""
    columns = names.count(" | ") + 1
    rule = ["---"] * words + ["---:"] * (columns - words)
    return "\n".join(f"| {row} |" for row in [names, " | ".join(rule), *rows])


def _notes(measurements: Iterable[Measurement]) -> str:
    notes = sorted({f"{one.workload}: {one.note}" for one in measurements if one.note})
    return "".join(f"\n{note}\n" for note in notes)


def _cpu_model() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        name, _, value = line.partition(":")
        if name.strip() == "model name":
            return value.strip()
    return platform.machine()
