"""The parts of the bench that only compute: plans, commands, figures, places."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path

import pytest

from benchmarks import upload
from benchmarks.growth import extent_of, grown
from benchmarks.load import (
    Load,
    Outcome,
    grpc_command,
    parse,
    pinned,
    quantile,
    summary,
    upload_command,
    wrk_command,
)
from benchmarks.measurement import Ask, between, measured
from benchmarks.plan import plan_of
from benchmarks.results import Grown
from benchmarks.servers import MODULES, Counts, together, url_at
from benchmarks.workloads import Door, all_workloads, families

LOAD = Load("http://127.0.0.1:8080/x", Path("/tmp/body"), "text/plain", 16, 2)
OUTCOME = Outcome(requests=4000, seconds=2.0, p50_ms=0.5, p99_ms=3.0, failed=0)
ASK = Ask(all_workloads()["noop"], Path("body"), 16, 2)


def test_wrk_is_told_connections_seconds_script_and_body() -> None:
    words = wrk_command(LOAD)
    assert words[:4] == ["wrk", "-t1", "-c16", "-d2s"]
    assert words[-5:] == ["http://127.0.0.1:8080/x", "--", "/tmp/body", "text/plain", "1"]


def test_wrks_script_exists() -> None:
    words = wrk_command(LOAD)
    assert Path(words[words.index("-s") + 1]).is_file()


def test_uploads_are_told_the_same() -> None:
    words = upload_command(LOAD)
    assert words[-5:] == [LOAD.url, "/tmp/body", "text/plain", "16", "2"]


def test_a_load_by_grpc_is_told_body_calls_and_seconds() -> None:
    assert grpc_command(LOAD)[-4:] == [LOAD.url, "/tmp/body", "16", "2"]


def test_a_command_is_pinned_only_where_there_is_a_core_for_it() -> None:
    assert pinned(["wrk"], 1) == ["taskset", "-c", "1", "wrk"]
    assert pinned(["wrk"], None) == ["wrk"]


def test_figures_are_read_from_the_last_line() -> None:
    figures = {
        "requests": 10,
        "duration_us": 2_000_000,
        "p50_us": 150,
        "p99_us": 900,
        "p999_us": 1_000,
        "failed": 1,
        "note": "by hand",
    }
    output = f"Running 2s test\n  Latency  1.00ms\n\n{json.dumps(figures)}\n"
    assert parse(output) == Outcome(10, 2.0, 0.15, 0.9, 1, "by hand", 1.0)


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


def test_the_bodies_are_of_the_promised_sizes() -> None:
    workloads = all_workloads()
    assert len(workloads["noop"].body) == 13
    assert 1200 < len(workloads["mlp"].body) < 1500
    assert len(json.loads(workloads["mlp"].body)) == 128
    assert len(workloads["length4-tcp"].body) == len(workloads["tensor"].body) == 4 * 1024 * 1024
    assert len(workloads["length64-unix"].body) == 64 * 1024 * 1024
    assert workloads["resnet"].body.startswith(b"\xff\xd8")


def test_every_workload_has_its_handler_and_its_yardsticks() -> None:
    for workload in all_workloads().values():
        assert workload.handler.is_file()
        assert set(workload.yardsticks) <= {*MODULES, "raw"}


def test_workloads_that_are_compared_are_measured_in_turn() -> None:
    names = [[one.name for one in family] for family in families(list(all_workloads().values()))]
    assert ["mlp", "mlp1"] in names
    assert ["noop"] in names


def test_the_quick_plan_is_one_round() -> None:
    assert (plan_of([]).rounds, plan_of([]).seconds) == (5, 2)
    quick = plan_of(["--quick", "--only", "mlp,figures"])
    assert (quick.rounds, quick.seconds) == (1, 1)
    assert [workload.name for workload in quick.workloads] == ["mlp"]
    assert quick.has_figures
    assert 256 not in quick.concurrencies
    assert not quick.has_growth
    assert plan_of(["--only", "growth"]).has_growth


def test_growth_is_compared_with_the_smallest_of_its_kind() -> None:
    rounds = [
        {("models", 1): 10.0, ("models", 1000): 11.0, ("jobs", 100): 5.0},
        {("models", 1): 100.0, ("models", 1000): 100.0, ("jobs", 100): 5.0},
        {("models", 1): 10.0, ("models", 1000): 12.0, ("jobs", 100): 6.0},
    ]
    assert list(grown(rounds)) == [
        Grown("models", 1, 10.0, 1.0),
        Grown("models", 1000, 12.0, 1.1),
        Grown("jobs", 100, 5.0, 1.0),
    ]


def test_one_round_does_not_grow_as_far() -> None:
    assert max(extent_of(1, 1).models) < max(extent_of(5, 2).models) == 1000
    assert extent_of(5, 2).rounds == 5


def test_a_plan_is_what_the_command_line_says() -> None:
    plan = plan_of(["--rounds", "3", "--seconds", "4", "--only", "noop", "--concurrency", "16,64"])
    assert (plan.rounds, plan.seconds, plan.concurrencies) == (3, 4, (16, 64))
    assert not plan.has_figures


def test_an_unknown_workload_is_refused_with_those_there_are(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with pytest.raises(SystemExit):
        plan_of(["--only", "noop,nope"])
    assert "there is no nope: noop, mlp" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--rounds", "0"], "0 is less than 1"),
        (["--seconds", "much"], "invalid"),
        (["--only", "noop", "--concurrency", "32"], "noop is measured at (1, 16, 64, 256)"),
    ],
)
def test_what_cannot_be_measured_is_refused(
    words: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        plan_of(words)
    assert said in capsys.readouterr().err


@pytest.mark.parametrize(
    ("door", "address", "url"),
    [
        (Door.TCP, "127.0.0.1:80", "http://127.0.0.1:80/x"),
        (Door.UNIX, "/run/http.sock", "unix:/run/http.sock:/x"),
        (Door.GRPC, "127.0.0.1:70", "127.0.0.1:70/x"),
    ],
)
def test_urls_say_door_place_and_path(door: Door, address: str, url: str) -> None:
    assert url_at(door, address, "/x") == url


def test_uploads_find_place_and_path_in_a_url() -> None:
    assert upload.parts("http://127.0.0.1:80/a/b") == ("127.0.0.1:80", "/a/b")
    assert upload.parts("unix:/run/http.sock:/a/b") == ("/run/http.sock", "/a/b")


def test_the_rates_of_several_processes_are_added() -> None:
    one = {"requests": 20, "duration_us": 1e6, "cpu_s": 1.0, "failed": 0}
    latencies = {"p50_us": 5.0, "p99_us": 6.0, "p999_us": 7.0}
    slower = one | {"requests": 10, "duration_us": 2e6} | dict.fromkeys(latencies, 9.0)
    both = together([one | latencies, slower])
    assert both["requests"] / both["duration_us"] == pytest.approx(25 / 1e6)
    assert (both["p50_us"], both["p99_us"], both["cpu_s"]) == (9.0, 9.0, 2.0)


def test_a_load_made_here_is_read_as_wrks() -> None:
    took_us = [float(value) for value in range(1000, 0, -1)]
    outcome = parse(json.dumps(summary(took_us, 2e6, failed=3)))
    assert outcome == Outcome(1000, 2.0, 0.5, 0.99, 3, p999_ms=0.999)
