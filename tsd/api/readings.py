"""What the daemon has counted, under TorchServe's names, at the moment of the scrape."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

from tsd.log_files import worker_name
from tsd.serving.model import Model
from tsd.system_load import Reading

CLASSES = {2: "Requests2XX", 4: "Requests4XX"}
OTHER = "Requests5XX"
DEFAULT_VERSION = "default"


def read(models: Iterable[Model], answered: Mapping[int, int]) -> list[Reading]:
    """TorchServe's frontend metrics; `answered`: answers by the first digit of their status."""
    models = list(models)
    return [*_answers(answered), *_predictions(models), *_times(models), *_workers(models)]


def _answers(answered: Mapping[int, int]) -> Iterator[Reading]:
    counts = dict.fromkeys((*CLASSES.values(), OTHER), 0)
    for digit, count in answered.items():
        counts[CLASSES.get(digit, OTHER)] += count
    # One that never came is not shown.
    return (Reading(name, count) for name, count in counts.items() if count)


def _predictions(models: Iterable[Model]) -> Iterator[Reading]:
    """Summed up: a name's default version may have been another one before."""
    sums: dict[tuple[str, tuple[str, str]], float] = {}
    for model in models:
        for version, asked in model.figures.asked.items():
            labels = (model.name, version or DEFAULT_VERSION)
            for name, value in (
                ("ts_inference_requests_total", asked.requests),
                ("ts_inference_latency_microseconds", asked.latency_us),
                ("ts_queue_latency_microseconds", asked.queue_us),
            ):
                sums[name, labels] = sums.get((name, labels), 0.0) + value
    return (Reading(name, value, labels) for (name, labels), value in sums.items() if value)


def _times(models: Iterable[Model]) -> Iterator[Reading]:
    answered = [asked for model in models for asked in model.figures.asked.values()]
    last = max(answered, key=lambda asked: asked.answered_at, default=None)
    if last is not None and last.answered_at:
        yield Reading("QueueTime", last.last_queue_ms)
    overheads = [one.figures.overhead_ms for one in models if one.figures.overhead_ms is not None]
    if overheads:
        yield Reading("WorkerThreadTime", max(overheads))


def _workers(models: Iterable[Model]) -> Iterator[Reading]:
    for model in models:
        for worker in model.pool.workers.values():
            if worker.ready_after_s is not None:
                name = worker_name(worker.number, model.name, model.version)
                yield Reading("WorkerLoadTime", worker.ready_after_s * 1e3, (name, "Host"))
