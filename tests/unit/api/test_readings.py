"""The daemon's counts under TorchServe's names."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from tests.unit.serving.test_batcher import make_job
from tsd.api import readings
from tsd.metrics import ModelFigures
from tsd.serving.job import Job


def model(name: str, version: str, figures: ModelFigures, *ready_after_s: float | None) -> Any:
    workers = {
        number: SimpleNamespace(number=number, ready_after_s=ready_s)
        for number, ready_s in enumerate(ready_after_s, 1)
    }
    pool = SimpleNamespace(workers=workers)
    return SimpleNamespace(name=name, version=version, figures=figures, pool=pool)


def read(*models: Any, answered: dict[int, int] | None = None) -> dict[Any, float]:
    found = readings.read(models, answered or {})
    named = {(reading.name, *reading.labels): reading.value for reading in found}
    assert len(named) == len(found), "a series is there once"
    return named


def test_every_answer_that_is_neither_2xx_nor_4xx_counts_as_5xx() -> None:
    assert read(answered={1: 1, 2: 2, 3: 3, 4: 4, 5: 5}) == {
        ("Requests2XX", "Host"): 2,
        ("Requests4XX", "Host"): 4,
        ("Requests5XX", "Host"): 9,
    }
    assert read(answered={2: 1}) == {("Requests2XX", "Host"): 1}


def asked_job(figures: ModelFigures) -> Job:
    return make_job(1, accepted_at=0.0, queued_at=0.0, asked=figures.count_asked(None))


def test_predictions_are_summed_by_the_version_that_was_asked_for() -> None:
    old, new = ModelFigures(), ModelFigures()
    for figures in (old, new):
        figures.count_answered([asked_job(figures)], left_at=0.001, now=0.002)
    new.count_asked("2.0")
    found = read(model("m", "1.0", old), model("m", "2.0", new))
    assert found == {
        ("ts_inference_requests_total", "m", "default"): 2,
        ("ts_inference_latency_microseconds", "m", "default"): 4000,
        ("ts_queue_latency_microseconds", "m", "default"): 2000,
        ("ts_inference_requests_total", "m", "2.0"): 1,
        ("QueueTime", "Host"): 1,
    }


def test_the_queue_time_is_that_of_the_last_answer() -> None:
    first, last = ModelFigures(), ModelFigures()
    for figures, queue_s in ((first, 0.009), (last, 0.003)):
        figures.count_answered([asked_job(figures)], left_at=queue_s, now=0.01)
    found = read(model("b", "1", last), model("a", "1", first))
    assert found["QueueTime", "Host"] == 3


def test_workers_tell_how_long_they_loaded_once_they_have() -> None:
    figures = ModelFigures(overhead_ms=0.25)
    found = read(model("m", "1.0", figures, 0.5, None), model("n", "1.0", ModelFigures(), 2.0))
    assert found == {
        ("WorkerThreadTime", "Host"): 0.25,
        ("WorkerLoadTime", "W-9000-m_1.0", "Host"): 500,
        ("WorkerLoadTime", "W-9000-n_1.0", "Host"): 2000,
    }
