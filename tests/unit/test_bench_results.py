"""What the bench makes of its measurements: ratios, goals, tables, a file, curves."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path

import pytest

from benchmarks import report
from benchmarks.goals import Bound, Goal, against, all_goals, at_least, at_most, gain
from benchmarks.measurement import Measurement
from benchmarks.plots import Point, curves
from benchmarks.results import OURS, Figure, Grown, Results
from benchmarks.servers import MODULES
from benchmarks.workloads import all_workloads


def cell(target: str, rate: float, **cpu_s: float) -> Measurement:
    """A measurement of one round, of which only the rate and the CPU time matter."""
    return Measurement("noop", 16, target, 100, rate, 1.0, 2.0, 0, cpu_s, None, "", 3.0)


TARGETS = (*MODULES, "raw", *OURS)
FIGURES = [
    Figure(name, 1.0, "", "")
    for name in (
        *("extras_us", "worker_ready_ms", "fresh_ratio", "worker_private_mb", "shared_ratio"),
        *("kill_seen_ms", "replacement_ms", "accepting_s", "daemon_rss_mb", "idle_wakeups"),
    )
]

GROWTH = [Grown("models", 1, 50.0, 1.0), Grown("models", 1_000, 51.0, 1.02)]

ROUNDS = Results(
    [
        one
        for floor, ours in ((100.0, 50.0), (10.0, 9.0), (100.0, 60.0))
        for one in (
            cell("floor", floor, server=0.010),
            cell("tsd", ours, daemon=0.012, workers=0.003),
        )
    ],
    [Figure("accepting_s", 0.25, "s", "the start")],
)


def everything(target: str) -> list[Measurement]:
    """One round of all cells that the target is asked in."""
    return [
        replace(cell(target, 1.0, all=1.0), workload=one.name, concurrency=concurrency)
        for one in all_workloads().values()
        for concurrency in one.concurrencies
        if target in (*one.yardsticks, "tsd", *(["tsd+log"] if one.is_logged else []))
    ]


def test_ratios_are_medians_of_the_rounds() -> None:
    (ratio,) = ROUNDS.ratios()
    assert (ratio.workload, ratio.concurrency, ratio.yardstick) == ("noop", 16, "floor")
    assert ratio.requests_per_s == pytest.approx(0.6)
    assert ratio.cpu == pytest.approx(1.5)
    assert ratio.daemon_cpu == pytest.approx(1.2)
    assert ratio.worker_cpu == pytest.approx(0.3)


def test_a_round_that_is_not_whole_does_not_count() -> None:
    cut = Results([*ROUNDS.measurements, cell("floor", 1.0, server=1.0)])
    assert cut.ratios() == ROUNDS.ratios()


def test_each_of_ours_is_compared_with_each_yardstick() -> None:
    names = ("floor", "raw", "tsd", "tsd+log")
    found = Results([cell(name, 1.0, all=1.0) for name in names]).ratios()
    assert {(one.target, one.yardstick) for one in found} == {
        (ours, theirs) for ours in names[2:] for theirs in names[:2]
    }


def test_a_yardstick_that_used_nothing_measurable_gives_no_ratio() -> None:
    results = Results([cell("floor", 1.0, server=0.0), cell("tsd", 1.0, daemon=0.1)])
    assert math.isnan(results.ratios()[0].cpu)


def test_latency_is_not_compared_with_batches_that_wait_for_nobody() -> None:
    results = Results([cell("raw", 1.0, model=1.0), cell("tsd", 1.0, daemon=1.0)])
    assert math.isnan(results.ratios()[0].p50)


@pytest.mark.parametrize(
    ("value", "verdict"),
    [(0.81, "stretch met"), (0.6, "must met"), (0.59, "NOT MET"), (math.nan, "NOT MET")],
)
def test_a_goal_that_is_a_least_is_met_from_above(value: float, verdict: str) -> None:
    goal = at_least("rate", 0.6, 0.8, lambda _: value)
    assert goal.verdict(goal.computed(ROUNDS)) == verdict


@pytest.mark.parametrize(
    ("value", "verdict"), [(1.3, "stretch met"), (1.6, "must met"), (1.61, "NOT MET")]
)
def test_a_goal_that_is_a_most_is_met_from_below(value: float, verdict: str) -> None:
    goal = at_most("CPU", 1.6, 1.35, lambda _: value)
    assert goal.verdict(goal.computed(ROUNDS)) == verdict


def test_what_was_not_measured_is_no_verdict() -> None:
    goal = Goal("rate", Bound.AT_LEAST, 1, 2, against("mlp", 16, "floor", "cpu"))
    assert goal.computed(ROUNDS) is None
    assert goal.verdict(None) == "not measured"


def test_a_gain_compares_two_workloads_round_by_round() -> None:
    one_by_one = [replace(cell("tsd", rate), workload="mlp1") for rate in (10.0, 20.0, 10.0)]
    batched = [replace(cell("tsd", rate), workload="mlp") for rate in (60.0, 180.0, 80.0)]
    computed = gain("mlp", "mlp1", 16)(Results([*one_by_one, *batched]))
    assert computed == pytest.approx(8.0)


def test_every_goal_is_there_once_and_its_stretch_is_no_easier_than_its_must() -> None:
    goals = all_goals()
    assert len({goal.about for goal in goals}) == len(goals)
    assert all(goal.is_within(goal.stretch, goal.must) for goal in goals)


def test_goals_name_cells_that_are_measured() -> None:
    """A goal over a cell that no workload has would never be looked at."""
    measurements = [one for target in TARGETS for one in everything(target)]
    results = Results(measurements, FIGURES, growth=GROWTH)
    assert [goal.about for goal in all_goals() if goal.computed(results) is None] == []


def test_the_tables_have_a_row_for_each_target_ratio_figure_and_goal() -> None:
    measurements = [
        cell("floor", 60_000, server=0.014),
        replace(cell("tsd", 40_000, daemon=0.02, workers=0.002), mean_batch=29.5, note="a note"),
    ]
    text = report.tables(Results(measurements, ROUNDS.figures, growth=GROWTH))
    assert "| models | 1,000 | 51.0 | 1.020 |" in text
    assert "| 1,000 models, one used: CPU ÷ 1 model | ≤ 1.05 | 1.01 | 1.02 | must met |" in text
    floor_row, tsd_row, ratio_row = (line for line in text.splitlines() if "| noop |" in line)
    assert "60,000" in floor_row
    assert "daemon 0.0200, workers 0.0020 | 29.5 | 0 |" in tsd_row
    assert "| noop | 16 | tsd | floor | 0.667 |" in ratio_row
    assert "| the start | 0.25 | s |" in text
    assert "| no-op, c 16: requests/s ÷ floor | ≥ 0.4 | 0.5 | 0.667 | stretch met |" in text
    assert "| daemon accepting after its start, s | ≤ 0.3 | 0.2 | 0.25 | must met |" in text
    assert "noop: a note" in text


def test_every_row_of_a_table_has_as_many_columns_as_its_head() -> None:
    for block in report.tables(ROUNDS).split("\n\n"):
        assert len({line.count("|") for line in block.splitlines() if line}) == 1


def test_the_file_holds_facts_goals_ratios_and_every_round(tmp_path: Path) -> None:
    path = tmp_path / "results" / "latest.json"
    nameless = replace(cell("tsd", 1.0, daemon=0.1), p999_ms=math.nan)
    results = Results([cell("floor", 2.0, server=0.1), nameless], ROUNDS.figures)
    report.write_file(path, {"date": "today"}, results)
    content = json.loads(path.read_text())
    assert content["date"] == "today"
    assert len(content["measurements"]) == 2
    assert content["measurements"][1]["p999_ms"] is None
    assert content["ratios"][0]["requests_per_s"] == 0.5
    assert {"goal", "measured", "verdict"} == content["goals"][0].keys()
    assert content["figures"][0]["value"] == 0.25


def test_curves_are_medians_in_the_order_of_the_concurrencies() -> None:
    at_64 = replace(cell("tsd", 70.0), concurrency=64, p50_ms=5.0, p99_ms=9.0)
    at_16 = [cell("tsd", rate) for rate in (10.0, 30.0, 20.0)]
    found = curves(Results([at_64, *at_16]))
    assert found == {"noop": {"tsd": [Point(16, 20.0, 1.0, 2.0), Point(64, 70.0, 5.0, 9.0)]}}


def test_a_workload_of_one_concurrency_has_no_curve() -> None:
    assert curves(ROUNDS) == {}
