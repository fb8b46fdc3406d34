"""What the rounds say: medians, tsd against each peer, and whether the goals are met."""

from __future__ import annotations

import enum
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from statistics import median


@dataclass(frozen=True)
class Round:
    """What one server did in one round. CPU seconds are the whole process tree's, per 1000
    requests."""

    workload: str
    concurrency: int
    server: str
    batch_size: int
    requests_per_s: float
    p50_ms: float
    p99_ms: float
    cpu_s: float
    failed: int


class Figure(enum.Enum):
    """What is compared, and which way is better."""

    RATE = "requests/s"
    CPU = "CPU"


@dataclass(frozen=True)
class Goal:
    """tsd ÷ the peer: at least so much for a rate, at most so much for CPU."""

    workload: str
    peer: str
    figure: Figure
    must: float
    stretch: float | None = None

    def is_met(self, ratio: float, bound: float) -> bool:
        return ratio >= bound if self.figure is Figure.RATE else ratio <= bound

    def words(self, ratio: float) -> str:
        if self.stretch is not None and self.is_met(ratio, self.stretch):
            return "stretch met"
        return "met" if self.is_met(ratio, self.must) else "not met"


GOALS = (
    Goal("noop", "torchserve", Figure.RATE, 25, 40),
    Goal("noop", "triton", Figure.RATE, 7, 10),
    Goal("noop", "mosec", Figure.RATE, 5, 8),
    Goal("noop", "fastapi", Figure.RATE, 4, 6),
    Goal("mlp", "torchserve", Figure.RATE, 7, 10),
    Goal("mlp", "triton", Figure.RATE, 4, 5),
    Goal("mlp", "mosec", Figure.RATE, 5, 7),
    Goal("tensor", "torchserve", Figure.RATE, 4, 6),
    Goal("tensor", "triton", Figure.RATE, 2.5, 3.5),
    Goal("tensor", "mosec", Figure.RATE, 1.7, 2.4),
    Goal("tensor", "torchserve", Figure.CPU, 1 / 10),
    Goal("tensor", "triton", Figure.CPU, 1 / 4),
    Goal("tensor", "mosec", Figure.CPU, 1 / 3),
)


@dataclass(frozen=True)
class Comparison:
    """tsd ÷ one peer on one workload: the medians of the rounds' ratios."""

    workload: str
    peer: str
    ratios: dict[Figure, float]


def compare(rounds: Sequence[Round]) -> list[Comparison]:
    """tsd against everybody else; the rounds of each server stand in their order."""
    found = []
    for (workload, server), theirs in by_server(rounds).items():
        ours = by_server(rounds).get((workload, "tsd"), [])
        if server != "tsd" and ours:
            figures = {Figure.RATE: rate, Figure.CPU: cpu}
            ratios = {figure: median_ratio(ours, theirs, of) for figure, of in figures.items()}
            found.append(Comparison(workload, server, ratios))
    return found


def rate(one: Round) -> float:
    return one.requests_per_s


def cpu(one: Round) -> float:
    return one.cpu_s


def median_ratio(
    ours: Sequence[Round], theirs: Sequence[Round], of: Callable[[Round], float]
) -> float:
    """Round by round: what disturbs one disturbs the other."""
    return median(of(our) / of(their) for our, their in zip(ours, theirs, strict=True))


def by_server(rounds: Iterable[Round]) -> dict[tuple[str, str], list[Round]]:
    """The rounds of each server on each workload."""
    found: dict[tuple[str, str], list[Round]] = {}
    for one in rounds:
        found.setdefault((one.workload, one.server), []).append(one)
    return found


def tables(rounds: Sequence[Round]) -> str:
    """All of it in Markdown."""
    return "\n\n".join([medians(rounds), verdicts(compare(rounds))])


def medians(rounds: Sequence[Round]) -> str:
    """A row a server."""
    rows = ["workload | c | server | batch ≤ | requests/s | p50 ms | p99 ms | CPU s/1000 | failed"]
    rows.append("--- | --- | --- | ---: | ---: | ---: | ---: | ---: | ---:")
    for (workload, server), all_of_it in by_server(rounds).items():
        first = all_of_it[0]
        figures = (
            f"{median(one.requests_per_s for one in all_of_it):,.0f}",
            f"{median(one.p50_ms for one in all_of_it):.2f}",
            f"{median(one.p99_ms for one in all_of_it):.2f}",
            f"{median(one.cpu_s for one in all_of_it):.4f}",
            str(sum(one.failed for one in all_of_it)),
        )
        head = (workload, str(first.concurrency), server, str(first.batch_size))
        rows.append(" | ".join(head + figures))
    return "\n".join(f"| {row} |" for row in rows)


def verdicts(comparisons: Iterable[Comparison]) -> str:
    """A row a ratio, with its goal where it has one."""
    rows = [
        "workload | tsd ÷ | of | measured | must | stretch | ",
        "--- | --- | --- | ---: | ---: | ---: | ---",
    ]
    for one in comparisons:
        for figure, ratio in one.ratios.items():
            head = f"{one.workload} | {one.peer} | {figure.value} | {ratio:.3g}"
            rows.append(f"{head} | {goal_words(one, figure, ratio)}")
    return "\n".join(f"| {row} |" for row in rows)


def goal_words(one: Comparison, figure: Figure, ratio: float) -> str:
    """Must, stretch and what became of them; three empty cells where there is no goal."""
    for goal in GOALS:
        if (goal.workload, goal.peer, goal.figure) == (one.workload, one.peer, figure):
            sign = "≥" if figure is Figure.RATE else "≤"
            stretch = "" if goal.stretch is None else f"{sign} {goal.stretch:.3g}"
            return f"{sign} {goal.must:.3g} | {stretch} | {goal.words(ratio)}"
    return " | | "
