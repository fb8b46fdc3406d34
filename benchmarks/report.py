"""What a run says, for people and for programs: tables in Markdown, and a file of JSON."""

from __future__ import annotations

import json
import math
import os
import platform
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from statistics import median

from benchmarks.goals import Goal, all_goals
from benchmarks.measurement import Measurement
from benchmarks.results import Results


def tables(results: Results) -> str:
    """All of it: medians, ratios, figures, and what became of the goals."""
    parts = [_medians(results), _ratios(results), _figures(results)]
    parts += [_growth(results), goals_table(results)]
    return "\n\n".join(part for part in parts if part) + _notes(results.measurements)


def heading(facts: dict[str, object]) -> str:
    """Date, command and machine: a figure means nothing without them."""
    machine = facts["machine"]
    assert isinstance(machine, dict)
    versions = ", ".join(f"{name} {value}" for name, value in machine.items())
    rounds = f"{facts['rounds']} interleaved rounds of {facts['seconds']} s a cell"
    return f"{facts['date']}, `{facts['command']}`, {rounds}\n{versions}; {facts['placement']}"


def goals_table(results: Results) -> str:
    """Every goal of which something was measured, met or not."""
    rows = [
        f"{goal.about} | {goal.bound.value} {goal.must:g} | {goal.stretch:g} | {value:.3g} | "
        f"{goal.verdict(value)}"
        for goal, value in _reached(results)
    ]
    return _markdown("goal | must | stretch | measured | verdict", rows, 1) if rows else ""


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


def write_file(path: Path, facts: dict[str, object], results: Results) -> None:
    """Everything, for whoever compares two runs; what is no number is null."""
    content = {
        **facts,
        "goals": [
            {"goal": goal.about, "measured": value, "verdict": goal.verdict(value)}
            for goal, value in _reached(results)
        ],
        "ratios": [asdict(ratio) for ratio in results.ratios()],
        "figures": [asdict(figure) for figure in results.figures],
        "growth": [asdict(one) for one in results.growth],
        "measurements": [asdict(one) for one in results.measurements],
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(_finite(content), indent=1) + "\n")


def _finite(value: object) -> object:
    """JSON has no word for what is no number."""
    if isinstance(value, dict):
        return {key: _finite(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [_finite(inner) for inner in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _reached(results: Results) -> list[tuple[Goal, float]]:
    computed = [(goal, goal.computed(results)) for goal in all_goals()]
    return [(goal, value) for goal, value in computed if value is not None]


def _medians(results: Results) -> str:
    names = "workload | c | target | requests/s | p50 ms | p99 ms | p99.9 ms"
    rows = [
        f"{workload} | {concurrency} | {target} | {_row(rounds)}"
        for (workload, concurrency), by_target in results.cells().items()
        for target, rounds in by_target.items()
    ]
    names = f"{names} | CPU s/1000 | of which | mean batch | failed"
    return _markdown(names, rows, 3) if rows else ""


def _row(rounds: Sequence[Measurement]) -> str:
    batches = [one.mean_batch for one in rounds if one.mean_batch is not None]
    parts = rounds[0].cpu_s
    split = [f"{part} {median(one.cpu_s[part] for one in rounds):.4f}" for part in parts]
    return " | ".join(
        [
            f"{median(one.requests_per_s for one in rounds):,.0f}",
            f"{median(one.p50_ms for one in rounds):.3f}",
            f"{median(one.p99_ms for one in rounds):.3f}",
            f"{median(one.p999_ms for one in rounds):.3f}",
            f"{median(one.total_cpu_s for one in rounds):.4f}",
            ", ".join(split) if len(split) > 1 else "",
            f"{median(batches):.1f}" if batches else "",
            str(sum(one.failed for one in rounds)),
        ]
    )


def _ratios(results: Results) -> str:
    names = "workload | c | tsd | ÷ | requests/s | p50 | CPU | daemon's CPU | workers' CPU"
    rows = [
        f"{one.workload} | {one.concurrency} | {one.target} | {one.yardstick} | "
        f"{one.requests_per_s:.3g} | {_number(one.p50)} | {one.cpu:.3g} | {one.daemon_cpu:.3g} | "
        f"{one.worker_cpu:.3g}"
        for one in results.ratios()
    ]
    return _markdown(names, rows, 4) if rows else ""


def _figures(results: Results) -> str:
    rows = [f"{one.about} | {one.value:,.4g} | {one.unit}" for one in results.figures]
    return _markdown("figure | value | unit", rows, 1) if rows else ""


def _growth(results: Results) -> str:
    rows = [
        f"{one.what} | {one.size:,} | {one.cpu_us:.1f} | {one.ratio:.3f}" for one in results.growth
    ]
    return _markdown("what grows | size | CPU µs | ÷ smallest", rows, 1) if rows else ""


def _number(value: float) -> str:
    return "" if math.isnan(value) else f"{value:.3g}"


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
