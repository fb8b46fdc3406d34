"""The parts of the bench that only compute: commands, figures, ratios, tables."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path

import pytest

from benchmarks import report
from benchmarks.__main__ import plan_of
from benchmarks.load import Load, Outcome, parse, pinned, quantile, upload_command, wrk_command
from benchmarks.measurement import Ask, Measurement, between, measured
from benchmarks.servers import Counts
from benchmarks.workloads import all_workloads

LOAD = Load("http://127.0.0.1:8080/x", Path("/tmp/body"), "text/plain", 16, 2)
OUTCOME = Outcome(requests=4000, seconds=2.0, p50_ms=0.5, p99_ms=3.0, failed=0)
ASK = Ask(all_workloads()["noop"], Path("body"), 16, 2)


def cell(target: str, rate: float, **cpu_s: float) -> Measurement:
    """A measurement of one round, of which only the rate and the CPU time matter."""
    return Measurement("noop", 16, target, 100, rate, 1.0, 2.0, 0, cpu_s, None, "")


def test_wrk_is_told_connections_seconds_script_and_body() -> None:
    words = wrk_command(LOAD)
    assert words[:4] == ["wrk", "-t1", "-c16", "-d2s"]
    assert words[-4:] == ["http://127.0.0.1:8080/x", "--", "/tmp/body", "text/plain"]


def test_wrks_script_exists() -> None:
    words = wrk_command(LOAD)
    assert Path(words[words.index("-s") + 1]).is_file()


def test_uploads_are_told_the_same() -> None:
    words = upload_command(LOAD)
    assert words[-5:] == [LOAD.url, "/tmp/body", "text/plain", "16", "2"]


def test_a_command_is_pinned_only_where_there_is_a_core_for_it() -> None:
    assert pinned(["wrk"], 1) == ["taskset", "-c", "1", "wrk"]
    assert pinned(["wrk"], None) == ["wrk"]


def test_figures_are_read_from_the_last_line() -> None:
    figures = {
        "requests": 10,
        "duration_us": 2_000_000,
        "p50_us": 150,
        "p99_us": 900,
        "failed": 1,
        "note": "by hand",
    }
    output = f"Running 2s test\n  Latency  1.00ms\n\n{json.dumps(figures)}\n"
    assert parse(output) == Outcome(10, 2.0, 0.15, 0.9, 1, "by hand")


@pytest.mark.parametrize("output", ["", "unable to connect", "17"])
def test_output_without_figures_is_an_error(output: str) -> None:
    with pytest.raises(ValueError, match=r"no figures|Expecting value"):
        parse(output)


def test_a_quantile_is_a_value_that_was_measured() -> None:
    ascending = [float(value) for value in range(1, 101)]
    assert quantile(ascending, 0.5) == 50
    assert quantile(ascending, 0.99) == 99
    assert quantile([7.0], 0.99) == 7
    assert math.isnan(quantile([], 0.5))


def test_counts_are_subtracted_part_by_part() -> None:
    before = Counts({"daemon": 1.0, "workers": 5.0}, rows=100, batches=10)
    after = Counts({"daemon": 1.5, "workers": 7.0}, rows=400, batches=40)
    assert between(before, after) == Counts({"daemon": 0.5, "workers": 2.0}, 300, 30)


def test_cpu_time_is_reported_for_a_thousand_requests() -> None:
    one = measured("tsd", ASK, OUTCOME, Counts({"daemon": 0.08, "workers": 0.02}, 4000, 250))
    assert one.cpu_s == pytest.approx({"daemon": 0.02, "workers": 0.005})
    assert one.total_cpu_s == pytest.approx(0.025)
    assert one.requests_per_s == 2000
    assert one.mean_batch == 16


def test_a_target_that_knows_no_batches_has_no_mean_batch() -> None:
    assert measured("floor", ASK, OUTCOME, Counts({"server": 0.05})).mean_batch is None


def test_a_cell_in_which_nothing_was_answered_can_be_reported() -> None:
    none = replace(OUTCOME, requests=0, failed=3)
    assert measured("floor", ASK, none, Counts({"server": 0.05})).requests_per_s == 0


def test_ratios_are_medians_of_the_rounds() -> None:
    rounds = [(100.0, 50.0), (10.0, 9.0), (100.0, 60.0)]
    measurements = [
        one
        for floor, ours in rounds
        for one in (
            cell("floor", floor, server=0.010),
            cell("tsd", ours, daemon=0.012, workers=0.003),
        )
    ]
    (ratio,) = report.ratios(measurements)
    assert (ratio.workload, ratio.concurrency, ratio.yardstick) == ("noop", 16, "floor")
    assert ratio.requests_per_s == pytest.approx(0.6)
    assert ratio.cpu == pytest.approx(1.5)
    assert ratio.daemon_cpu == pytest.approx(1.2)
    assert ratio.worker_cpu == pytest.approx(0.3)


def test_a_yardstick_that_used_nothing_measurable_gives_no_ratio() -> None:
    (ratio,) = report.ratios([cell("floor", 1.0, server=0.0), cell("tsd", 1.0, daemon=0.1)])
    assert math.isnan(ratio.cpu)


def test_the_table_has_a_row_for_each_target_and_each_ratio() -> None:
    measurements = [
        cell("floor", 60_000, server=0.014),
        replace(cell("tsd", 40_000, daemon=0.02, workers=0.002), mean_batch=29.5, note="a note"),
    ]
    text = report.table(measurements)
    floor_row, tsd_row, ratio_row = (line for line in text.splitlines() if "| noop |" in line)
    assert "60,000" in floor_row
    assert "daemon 0.0200, workers 0.0020 | 29.5 | 0 |" in tsd_row
    assert "| noop | 16 | floor | 0.667 |" in ratio_row
    assert "noop: a note" in text


def test_every_row_of_a_table_has_as_many_columns_as_its_head() -> None:
    measurements = [cell("floor", 2.0, server=0.1), cell("tsd", 1.0, daemon=0.1, workers=0.1)]
    for block in report.table(measurements).split("\n\n"):
        assert len({line.count("|") for line in block.splitlines() if line}) == 1


def test_the_file_holds_facts_ratios_and_every_round(tmp_path: Path) -> None:
    path = tmp_path / "results" / "latest.json"
    measurements = [cell("floor", 2.0, server=0.1), cell("tsd", 1.0, daemon=0.1)]
    report.write_file(path, {"date": "today"}, measurements)
    content = json.loads(path.read_text())
    assert content["date"] == "today"
    assert len(content["measurements"]) == 2
    assert content["ratios"][0]["requests_per_s"] == 0.5


def test_the_bodies_are_of_the_promised_sizes() -> None:
    workloads = all_workloads()
    assert len(workloads["noop"].body) == 13
    assert 1200 < len(workloads["mlp"].body) < 1500
    assert len(json.loads(workloads["mlp"].body)) == 128
    assert len(workloads["length"].body) == 4 * 1024 * 1024


def test_every_workload_has_its_handler() -> None:
    assert all(workload.handler.is_file() for workload in all_workloads().values())


def test_the_quick_plan_is_one_round() -> None:
    assert (plan_of([]).rounds, plan_of([]).seconds) == (5, 2)
    quick = plan_of(["--quick", "--only", "mlp"])
    assert (quick.rounds, quick.seconds) == (1, 1)
    assert [workload.name for workload in quick.workloads] == ["mlp"]
