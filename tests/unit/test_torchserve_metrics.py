"""TorchServe's metrics: lines of handlers believed as far as they can be, and its page's text."""

from __future__ import annotations

import re
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client.parser import text_string_to_metric_families

from tsd import metrics_file
from tsd.settings import MetricsSettings
from tsd.system_load import Reading
from tsd.torchserve_metrics import TorchServeMetrics

LABELS = "ModelName:m,Level:Model"
IN_PAGE = 'ModelName="m",Level="Model",Hostname="h",'


def metrics(**settings: Any) -> TorchServeMetrics:
    changed = msgspec.structs.replace(MetricsSettings(), **settings)
    return TorchServeMetrics(changed, metrics_file.read(None), "h")


def line(
    name: str = "Own", value: object = 1.0, labels: str = LABELS, kind: str | None = "COUNTER"
) -> str:
    said = f"|#type:{kind}" if kind else ""
    return f"[METRICS]{name}.Count:{value}|#{labels}{said}|#hostname:h,1700000000,id0,id1"


def page_after(*lines: str, **settings: Any) -> str:
    subject = metrics(**settings)
    for each in lines:
        subject.handlers.take(each)
    return subject.page([])


def test_counters_add_gauges_hold_and_histograms_count() -> None:
    page = page_after(
        *(line("C", 2), line("C", "3"), line("G", 2, kind="GAUGE"), line("G", 1, kind="GAUGE")),
        *(line("H", 0.02, kind="HISTOGRAM"), line("H", 99, kind="HISTOGRAM")),
    )
    assert f"C{{{IN_PAGE}}} 5.0\n" in page
    assert f"G{{{IN_PAGE}}} 1.0\n" in page
    assert f'H_bucket{{{IN_PAGE}le="0.025",}} 1.0\n' in page
    assert f'H_bucket{{{IN_PAGE}le="+Inf",}} 2.0\n' in page
    assert f"H_count{{{IN_PAGE}}} 2.0\nH_sum{{{IN_PAGE}}} 99.02\n" in page


def test_each_metric_is_explained_even_where_nothing_was_counted() -> None:
    page = metrics().page([])
    assert (
        "# HELP PredictionTime Torchserve prometheus gauge metric with unit: ms\n"
        "# TYPE PredictionTime gauge\n"
    ) in page
    assert page.count("# TYPE ") == 21
    assert "{" not in page


def test_prometheus_reads_the_page_for_all_its_commas() -> None:
    text = page_after(line(labels='ModelName:a"\\b,Level:Model'))
    families = {family.name: family for family in text_string_to_metric_families(text)}
    sample = families["Own"].samples[0]
    assert sample.labels == {"ModelName": 'a"\\b', "Level": "Model", "Hostname": "h"}
    assert sample.value == 1.0


def test_the_daemons_own_metrics_are_read_when_the_page_is_made() -> None:
    readings = [
        Reading("Requests2XX", 12),
        Reading("WorkerLoadTime", 8.5, ("W-9000-m_1.0", "Host")),
        Reading("Requests4XX", 1, ("a", "label", "too", "many")),
        Reading("NotDeclared", 1),
    ]
    page = metrics().page(readings)
    assert 'Requests2XX{Level="Host",Hostname="h",} 12.0\n' in page
    assert 'WorkerLoadTime{WorkerName="W-9000-m_1.0",Level="Host",Hostname="h",} 8.5\n' in page
    assert "Requests4XX{" not in page
    assert "NotDeclared" not in page


def test_a_page_can_be_of_some_names_only() -> None:
    subject = metrics()
    subject.handlers.take(line("A"))
    subject.handlers.take(line("H", kind="HISTOGRAM"))
    page = subject.page([Reading("Requests2XX", 1)], ["A", "H_sum", "PredictionTime", "None"])
    assert re.findall(r"^(\w+){", page, re.MULTILINE) == ["A", "H_sum"]
    assert re.findall(r"TYPE (\w+)", page) == ["A", "H"]


@pytest.mark.parametrize(
    "bad",
    [
        "",
        "hello",
        line(value="nan"),
        line(value="1e5e5"),
        line(value="1e999"),
        line("no-name"),
        line("two words"),
        line("9lives"),
        line("tsd_requests"),
        line("Requests2XX"),
        line("N" * 201),
        line(labels="le:1"),
        line(labels="a-b:1"),
        line(labels="A:1,A:2"),
        line(labels="Hostname:x"),
        line(labels="__name__:x"),
        line(kind="SUMMARY"),
        line("PredictionTime", labels="ModelName:m"),
        "Own.Count:1|#A:b",
    ],
)
def test_what_cannot_be_used_is_counted_and_shown_nowhere(bad: str) -> None:
    subject = metrics()
    subject.handlers.take(bad)
    assert subject.handlers.dropped == 1
    assert subject.page([]) == metrics().page([])


@given(st.text())
def test_no_line_does_any_harm(text: str) -> None:
    subject = metrics()
    subject.handlers.take(text)
    subject.handlers.take(f"[METRICS]A.{text}:1|#{text}:{text}|#hostname:h,1")
    list(text_string_to_metric_families(subject.page([])))


@pytest.mark.parametrize("labels", [{"A": "x\ny"}, {"A": 'q"'}, {"A": "b\\n"}, {"A": "c{}d"}])
def test_any_value_of_a_label_comes_out_as_it_went_in(labels: dict[str, str]) -> None:
    text = page_after(line(labels=",".join(f"{k}:{v}" for k, v in labels.items())))
    family = next(f for f in text_string_to_metric_families(text) if f.name == "Own")
    assert family.samples[0].labels == labels | {"Hostname": "h"}


def test_a_counter_does_not_go_down() -> None:
    page = page_after(line(value=3), line(value="-1"), line("Other", "-1"), line("Other", "-1"))
    assert f"Own{{{IN_PAGE}}} 3.0\n" in page
    assert "Other{" not in page


def test_a_line_that_names_no_kind_is_a_counters() -> None:
    assert f"Own{{{IN_PAGE}}} 2.0\n" in page_after(line(kind=None), line(kind=None))
    bare = "Own.Count:1|#|#hostname:h,1700000000"
    assert 'Own{Hostname="h",} 1.0\n' in page_after(bare)


def test_the_first_line_says_what_kind_a_metric_is() -> None:
    assert "# TYPE Own gauge" in page_after(line(kind="GAUGE"), line(kind="COUNTER"))


def test_series_are_bounded() -> None:
    subject = metrics(max_series=10)
    for number in range(20):
        subject.handlers.take(line("A", labels=f"N:{number}"))
        subject.handlers.take(line(f"B{number}"))
    subject.handlers.take(line("A", labels="N:0"))
    page = subject.page([])
    assert len(re.findall(r"^[AB]\d*{", page, re.MULTILINE)) <= 10
    assert 'A{N="0",Hostname="h",} 2.0' in page
    assert subject.handlers.dropped > 20


def test_undeclared_metrics_count_only_where_that_is_wanted() -> None:
    page = page_after(line(), line("PredictionTime", 7, kind="GAUGE"), auto_detect=False)
    assert "Own" not in page
    assert f"PredictionTime{{{IN_PAGE}}} 7.0" in page


def test_in_mode_log_everything_goes_to_the_log_and_the_page_is_empty() -> None:
    subject, lines = metrics(mode="log"), list[str]()
    subject.handlers.write = lines.append
    subject.handlers.take(line("Own", 2))
    subject.handlers.take("PredictionTime.ms:0.5|#ModelName:m,Level:Model|#hostname:h,1")
    assert re.fullmatch(
        rf"Own\.Count:2\.0\|#{LABELS}\|#hostname:h,requestID:id0,id1,timestamp:\d+", lines[0]
    )
    assert re.fullmatch(rf"PredictionTime\.ms:0\.5\|#{LABELS}\|#hostname:h,timestamp:\d+", lines[1])
    assert subject.page([Reading("Requests2XX", 1)]) == ""


def test_the_log_says_of_counters_by_how_much_they_grew_and_of_gauges_when_they_changed() -> None:
    subject = metrics(mode="log")

    def said(*readings: Reading) -> list[str]:
        return [text.partition(",timestamp")[0] for text in subject.log_lines(readings)]

    assert said(Reading("Requests2XX", 2), Reading("QueueTime", 0.0), Reading("Other", 1)) == [
        "Requests2XX.Count:2.0|#Level:Host|#hostname:h",
        "QueueTime.Milliseconds:0.0|#Level:Host|#hostname:h",
    ]
    assert said(Reading("Requests2XX", 2), Reading("QueueTime", 0.0)) == []
    assert said(Reading("Requests2XX", 5), Reading("QueueTime", 1.5)) == [
        "Requests2XX.Count:3.0|#Level:Host|#hostname:h",
        "QueueTime.Milliseconds:1.5|#Level:Host|#hostname:h",
    ]
    # The model was loaded anew.
    assert said(Reading("Requests2XX", 1)) == ["Requests2XX.Count:1.0|#Level:Host|#hostname:h"]


def test_in_mode_legacy_three_metrics_stay_on_the_page() -> None:
    subject, lines = metrics(mode="legacy"), list[str]()
    subject.handlers.write = lines.append
    subject.handlers.take(line())
    readings = [
        Reading("ts_inference_requests_total", 3, ("m", "default")),
        Reading("Requests2XX", 1),
    ]
    page = subject.page(readings)
    assert re.findall(r"TYPE (\w+) counter", page) == [
        "ts_inference_requests_total",
        "ts_inference_latency_microseconds",
        "ts_queue_latency_microseconds",
    ]
    asked = 'model_name="m",model_version="default",hostname="h",'
    assert f"ts_inference_requests_total{{{asked}}} 3.0\n" in page
    assert [text.partition(":")[0] for text in subject.log_lines(readings)] == ["Requests2XX.Count"]
    assert len(lines) == 1
