"""`context.metrics`: what handlers report becomes TorchServe's lines, bounded and in time."""

from __future__ import annotations

import copy
import io
import json
import logging
import re
import socket
import uuid
from pathlib import Path
from typing import Any

import pytest
from ts.metrics import system_metrics
from ts.metrics.caching_metric import CachingMetric
from ts.metrics.dimension import Dimension
from ts.metrics.metric import Metric
from ts.metrics.metric_cache_errors import (
    MetricsCacheIOError,
    MetricsCacheKeyError,
    MetricsCachePyYamlError,
    MetricsCacheTypeError,
    MetricsCacheValueError,
)
from ts.metrics.metric_cache_yaml_impl import MAX_METRICS, MetricsCacheYamlImpl, make_metrics
from ts.metrics.metric_encoder import MetricEncoder
from ts.metrics.metric_type_enum import MetricTypes
from ts.metrics.metrics_store import MAX_SERIES, MetricsStore
from ts.metrics.process_memory_metric import check_process_mem_usage
from ts.metrics.updates import MAX_PENDING

from tsd import metrics_file

HOST = socket.gethostname()
IDS = {0: "id0", 1: "id1"}


def metrics(**settings: Any) -> MetricsCacheYamlImpl:
    made = make_metrics("m", metrics_file.read(None).for_workers(), **settings)
    made.set_request_ids(IDS)
    return made


def told(subject: MetricsCacheYamlImpl) -> list[str]:
    """The lines, without what changes from run to run."""
    return [
        re.sub(rf"\|#hostname:{re.escape(HOST)},\d+", "|#H", line.removeprefix("[METRICS]"))
        for line in subject.flush()
    ]


def test_each_way_to_report_has_its_kind_its_unit_and_the_default_labels() -> None:
    subject = metrics()
    subject.add_counter("Count", 2, idx=0)
    subject.add_time("Time", 3.5, idx=1)
    subject.add_time("Seconds", 1, unit="s")
    subject.add_size("Size", 4)
    subject.add_percent("Percent", 5)
    subject.add_error("Error", 1)
    subject.add_metric("Own", 6, "widgets", metric_type=MetricTypes.HISTOGRAM)
    labels = "ModelName:m,Level:Model"
    assert told(subject) == [
        f"Count.Count:2.0|#{labels}|#type:COUNTER|#H,id0",
        f"Time.Milliseconds:3.5|#{labels}|#type:GAUGE|#H,id1",
        f"Seconds.Seconds:1.0|#{labels}|#type:GAUGE|#H,id0,id1",
        f"Size.Megabytes:4.0|#{labels}|#type:GAUGE|#H,id0,id1",
        f"Percent.Percent:5.0|#{labels}|#type:GAUGE|#H,id0,id1",
        "Error.unit:1.0|#Level:Error|#type:COUNTER|#H",
        f"Own.widgets:6.0|#{labels}|#type:HISTOGRAM|#H,id0,id1",
    ]
    assert subject.flush() == []


def test_labels_of_the_caller_come_first_and_keep_their_values() -> None:
    subject, mine = metrics(), [Dimension("Level", "Own"), Dimension("Zone", 7)]
    for _ in range(2):
        subject.add_counter("Count", 1, dimensions=mine)
    line = "Count.Count:1.0|#Level:Own,Zone:7,ModelName:m|#type:COUNTER|#H,id0,id1"
    assert told(subject) == [line, line]
    assert len(mine) == 2


def test_outside_a_batch_a_line_names_no_request() -> None:
    subject = make_metrics("m")
    subject.add_counter("Count", 1)
    assert told(subject) == ["Count.Count:1.0|#ModelName:m,Level:Model|#type:COUNTER|#H"]


def test_an_unknown_place_in_the_batch_names_all_requests() -> None:
    subject = metrics()
    subject.add_counter("Count", 1, idx=9)
    assert told(subject)[0].endswith(",id0,id1")


def test_only_where_lines_are_not_wanted_they_are_joined_by_series() -> None:
    subject = metrics(coalesce=True)
    for value in (2, 3):
        subject.add_counter("Count", value)
        subject.add_time("Time", value)
        subject.add_metric("Spread", value, "ms", metric_type=MetricTypes.HISTOGRAM)
        subject.add_counter("Count", value, dimensions=[Dimension("Level", value)])
    values = [line.partition("|")[0] for line in told(subject)]
    assert values == [
        "Count.Count:5.0",
        "Time.Milliseconds:3.0",
        "Spread.Milliseconds:2.0",
        "Count.Count:2.0",
        "Spread.Milliseconds:3.0",
        "Count.Count:3.0",
    ]


def test_of_too_many_lines_the_oldest_are_lost_and_that_is_said(
    caplog: pytest.LogCaptureFixture,
) -> None:
    subject = metrics()
    for value in range(MAX_PENDING + 3):
        subject.add_percent("Percent", value)
    lines = told(subject)
    assert len(lines) == MAX_PENDING
    assert lines[0].startswith("Percent.Percent:3.0|")
    assert "3 metrics too many" in caplog.text
    assert not subject.has_pending


@pytest.mark.parametrize("value", [-1, "much", None])
def test_a_value_that_cannot_be_is_logged_and_costs_nothing(
    value: Any, caplog: pytest.LogCaptureFixture
) -> None:
    subject = metrics()
    subject.add_counter("Count", value)
    assert not subject.has_pending
    assert f"metric Count: {value!r} is dropped" in caplog.text


def test_a_line_stays_one_line() -> None:
    subject = metrics()
    subject.add_counter("Count", 1, dimensions=[Dimension("Path", "a\nb\rc")])
    assert "Path:a b c" in subject.flush()[0]


@pytest.mark.parametrize("unit", ["min", "", None])
def test_a_wrong_unit_is_an_error(unit: Any) -> None:
    with pytest.raises(MetricsCacheValueError, match="none of ms, s"):
        metrics().add_time("Time", 1, unit=unit)
    with pytest.raises(ValueError, match="none of MB"):
        metrics().add_size("Size", 1, unit=unit)


def test_a_declared_metric_wants_its_own_labels(caplog: pytest.LogCaptureFixture) -> None:
    subject = metrics()
    subject.add_time("PredictionTime", 1, dimensions=[Dimension("Zone", "a")])
    assert not subject.has_pending
    assert "are not the values of ModelName, Level" in caplog.text


def test_a_metric_of_a_handlers_own_has_no_default_labels() -> None:
    subject = metrics()
    mine = subject.add_metric_to_cache("Mine", "count", ["Zone"], MetricTypes.COUNTER)
    assert subject.get_metric("Mine") is mine
    mine.add_or_update(1, ["a"], "id0")
    mine.update(2, "id1", [Dimension("Place", "b")])
    assert told(subject) == [
        "Mine.Count:1.0|#Zone:a|#type:COUNTER|#H,id0",
        "Mine.Count:2.0|#Place:b|#type:COUNTER|#H,id1",
    ]


def test_names_made_of_requests_do_not_fill_the_memory() -> None:
    subject = metrics()
    for number in range(MAX_METRICS + 5):
        subject.add_counter(f"Count{number}", 1)
    assert len(subject.cache[MetricTypes.COUNTER]) == MAX_METRICS
    assert subject.flush()[-1].startswith(f"[METRICS]Count{MAX_METRICS + 4}.")


def test_a_metric_is_found_by_name_and_kind() -> None:
    subject = metrics()
    assert subject.get_metric("PredictionTime", MetricTypes.GAUGE).unit == "Milliseconds"
    assert subject.cache_keys() == ["gauge:HandlerTime", "gauge:PredictionTime"]
    with pytest.raises(MetricsCacheKeyError, match="no counter has the name PredictionTime"):
        subject.get_metric("PredictionTime")
    with pytest.raises(MetricsCacheTypeError, match="metric_type is 'gauge'"):
        subject.get_metric("PredictionTime", "gauge")  # type: ignore[arg-type]
    with pytest.raises(MetricsCacheTypeError, match="unit is 3"):
        subject.add_metric_to_cache("a", 3)  # type: ignore[arg-type]


def test_a_copied_context_reports_to_the_same_daemon() -> None:
    subject = metrics()
    copied = copy.deepcopy(subject)
    copied.set_request_ids({0: "other"})
    copied.add_time("HandlerTime", 1)
    assert told(subject)[0].endswith(",other")


def test_a_file_declares_metrics(tmp_path: Path) -> None:
    path = tmp_path / "metrics.yaml"
    path.write_text("model_metrics:\n  counter:\n  - {name: A, unit: ms, dimensions: [Zone]}\n")
    subject = MetricsCacheYamlImpl(str(path))
    subject.initialize_cache()
    assert subject.get_metric("A").dimension_names == ["Zone"]


@pytest.mark.parametrize(
    ("content", "error"),
    [
        ("a: [", MetricsCachePyYamlError),
        ("ts_metrics: {}", MetricsCacheKeyError),
        ("model_metrics: {}", MetricsCacheValueError),
        ("model_metrics: {summary: []}", MetricsCacheKeyError),
        ("model_metrics: {gauge: [{name: A, unit: ms}]}", MetricsCacheKeyError),
    ],
)
def test_a_wrong_file_is_an_error(tmp_path: Path, content: str, error: type[Exception]) -> None:
    path = tmp_path / "metrics.yaml"
    path.write_text(content)
    with pytest.raises(error):
        MetricsCacheYamlImpl(str(path)).initialize_cache()


def test_a_missing_file_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(MetricsCacheIOError):
        MetricsCacheYamlImpl(str(tmp_path / "none.yaml"))
    with pytest.raises(MetricsCacheTypeError):
        MetricsCacheYamlImpl()


def test_a_metric_made_alone_prints_its_line(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    CachingMetric("Alone", "MB", ["Zone"], MetricTypes.GAUGE).add_or_update(1, ["a"])
    assert "[METRICS]Alone.Megabytes:1.0|#Zone:a|#type:GAUGE|#hostname:" in caplog.text


def test_the_older_metric_is_printed_encoded_and_updated(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    metric = Metric("Old", 3, "percent", [Dimension("Level", "Host")], "id0")
    assert re.fullmatch(
        rf"Old\.Percent:3\|#Level:Host\|#hostname:{re.escape(HOST)},\d+,id0", str(metric)
    )
    encoded = json.loads(json.dumps(metric, cls=MetricEncoder))
    assert (encoded["MetricName"], encoded["Dimensions"][0]["Value"]) == ("Old", "Host")
    metric.reset()
    assert "[METRICS]Old.Percent:0.0|#Level:Host|#type:COUNTER" in caplog.text


def test_the_older_store_takes_any_id() -> None:
    own = uuid.uuid4()
    store = MetricsStore(own, "m")
    store.add_time("Time", 1.5, None, "ms")
    assert list(store.cache) == [f"Time-ms-{own}-ModelName:m-Level:Model"]


def test_the_older_store_keeps_metrics_by_request_and_labels() -> None:
    store = MetricsStore(IDS, "m")
    store.add_counter("a", 1, idx=0)
    store.add_counter("a", 1, idx=1)
    store.add_time("t", 2)
    store.add_size("s", 3)
    store.add_percent("p", 4)
    store.add_error("e", 5)
    assert [(m.name, m.request_id) for m in store.store] == [
        *(("a", "id0"), ("a", "id1"), ("t", "id0,id1"), ("s", "id0,id1")),
        *(("p", "id0,id1"), ("e", None)),
    ]
    assert [str(label) for label in store.store[-1].dimensions] == ["Level:Error"]
    with pytest.raises(ValueError, match="none of ms, s"):
        store.add_time("t", 1, unit="min")
    for number in range(MAX_SERIES):
        store.add_counter(f"n{number}", 1)
    assert len(store.cache) == len(store.store) == MAX_SERIES


def test_the_machines_load_is_printed(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    system_metrics.collect_all(system_metrics, 0)
    check_process_mem_usage(io.StringIO("1,,0\n"))
    assert "MemoryUtilization.Percent:" in caplog.text
    assert re.search(r"\n.*1:\d+", caplog.text)
