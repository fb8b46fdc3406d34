"""Figures are counted in own slots and told in Prometheus' words."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from prometheus_client.parser import text_string_to_metric_families

from tsd.metrics import BATCH_BOUNDS, Histogram, ModelFigures, ModelSnapshot
from tsd.metrics_page import page


@given(st.lists(st.floats(0, 2000)))
def test_a_histogram_counts_every_value_once(values: list[float]) -> None:
    histogram = Histogram(BATCH_BOUNDS)
    for value in values:
        histogram.observe(value)
    assert histogram.observed == len(values)
    for name, count in histogram.cumulative():
        assert count == sum(value <= float(name) for value in values)


def test_a_quantile_is_the_bound_of_its_bucket() -> None:
    histogram = Histogram((1.0, 2.0, 4.0))
    assert histogram.quantile(0.5) is None
    for value in (0.5, 1.5, 1.5, 9.0):
        histogram.observe(value)
    assert (histogram.quantile(0.25), histogram.quantile(0.5)) == (1.0, 2.0)
    assert histogram.quantile(1.0) == 4.0


def test_the_page_is_what_prometheus_reads() -> None:
    figures = ModelFigures(requests=3, retries=1)
    figures.count_error("queue_full")
    figures.latency_s.observe(0.02)
    snapshot = ModelSnapshot("m", "1.0", figures, 4, {"idle": 2}, 1, is_ready=True, arena_bytes=5)
    snapshot.gpu_bytes["3", "cuda:0", "reserved"] = 9
    families = {
        family.name: family
        for family in text_string_to_metric_families(page([snapshot], 7).decode())
    }
    labels = {"model": "m", "version": "1.0"}
    of_worker = {"worker": "3", "device": "cuda:0", "kind": "reserved"}
    assert families["tsd_gpu_bytes"].samples[0].labels == labels | of_worker
    assert families["tsd_requests"].samples[0].value == 3
    assert families["tsd_errors"].samples[0].labels == labels | {"code": "queue_full"}
    assert families["tsd_workers"].samples[0].labels == labels | {"state": "idle"}
    assert families["tsd_connections"].samples[0].value == 7
    assert families["tsd_request_seconds"].samples[-1].value == 0.02


def test_a_page_of_named_samples_has_no_others() -> None:
    snapshot = ModelSnapshot("m", "1.0", ModelFigures(), 4, {}, 1, is_ready=True, arena_bytes=5)
    text = page([snapshot], 7, ["tsd_queue_depth", "tsd_request_seconds_count"]).decode()
    samples = [line for line in text.splitlines() if not line.startswith("#")]
    labels = '{model="m",version="1.0"}'
    assert samples == [f"tsd_queue_depth{labels} 4.0", f"tsd_request_seconds_count{labels} 0.0"]
    assert "# TYPE tsd_request_seconds histogram" in text
    assert "tsd_connections" not in text


def test_no_label_breaks_the_page() -> None:
    version = 'a"b\\c\nd'
    snapshot = ModelSnapshot("m", version, ModelFigures(), 0, {}, 0, is_ready=True, arena_bytes=0)
    families = list(text_string_to_metric_families(page([snapshot], 0).decode()))
    assert families[0].samples[0].labels == {"model": "m", "version": version}
