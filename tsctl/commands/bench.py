"""tsctl bench: the batch size and the number of workers for a latency, found by measuring.

The model is measured as it serves, and put back as it was, also when the command is interrupted.
The load is in bench/load.py, the search in bench/search.py."""

from __future__ import annotations

import os
import signal
import time
from argparse import Namespace
from collections.abc import Sequence
from dataclasses import asdict
from functools import partial

from tsctl.bench.load import Load, Tally, closed_loop
from tsctl.bench.picture import curve_lines, setting_text, table_lines
from tsctl.bench.search import Goal, Limits, Point, Setting, best, explore
from tsctl.bench.subject import Served, Subject, on_end
from tsctl.client import Client
from tsctl.commands.predict import predict_request
from tsctl.console import Console
from tsctl.failure import Failure, Json, Status

# For so long it is watched whether others ask the model.
WATCH_S = 1.0
# Beside the model's own limit for a batch, before an answer is not waited for any more.
GRACE_S = 30.0
# From that share of one processor on the load generator holds the model up.
GENERATOR_SHARE = 0.9


def run(arguments: Namespace, client: Client, console: Console) -> None:
    request = predict_request(arguments)
    with client.ask(request) as answer:
        # A request that fails would fail in all measurements.
        answer.read()
    subject = Subject(client, arguments.model, arguments.version)
    if not arguments.force:
        refuse_if_used(subject)
    bench = Bench(subject, Goal(arguments.percentile, arguments.latency), console)
    load = Load(
        path=subject.door(),
        request=request._replace(
            headers={**request.headers, "Connection": "keep-alive"}
        ).to_bytes(),
        seconds=arguments.seconds,
        stall_s=float(subject.look()["response_timeout_s"]) + GRACE_S,
    )
    bench.run(load, limits_of(arguments), applies=arguments.apply)


def limits_of(arguments: Namespace) -> Limits:
    cores = len(os.sched_getaffinity(0))
    return Limits(arguments.max_workers or cores, arguments.max_batch_size, arguments.concurrency)


def refuse_if_used(subject: Subject) -> None:
    """Raise where others ask the model now."""
    before = subject.look()
    time.sleep(WATCH_S)
    after = subject.look()
    asked = int(after["requests"]) - int(before["requests"])
    if asked or _is_busy(after):
        what = f"model {subject.name} serves others now"
        why = f"{asked} requests were answered within {WATCH_S:.0f} s, and more may wait"
        raise Failure(Status.REJECTED, what, why, "come back later, or slow them down: --force")


def _is_busy(model: Json) -> bool:
    return bool(model["queue"]["waiting"]) or any(w["state"] == "busy" for w in model["workers"])


class Bench:
    """One search, and what is told of it."""

    def __init__(self, subject: Subject, goal: Goal, console: Console) -> None:
        self._subject = subject
        self._goal = goal
        self._console = console
        self._served = subject.served()
        self._present = self._served.setting

    def run(self, load: Load, limits: Limits, *, applies: bool) -> None:
        """Measure, put the model back or set it anew, and tell all."""
        self._say(f"This loads {self._subject.name} in full, also for clients that use it.")
        last, points = self._served, list[Point]()
        with on_end(signal.default_int_handler):
            try:
                points = explore(partial(self._measure, load), self._goal, limits)
                found = best(points, self._goal)
                if applies and found is not None:
                    workers = found.setting.workers
                    last = Served(found.setting, workers, workers)
            finally:
                self._subject.put_back(last)
                self._say(f"{self._subject.name} is served by {setting_text(last.setting)}.")
        self._tell(points, found, applies=applies)

    def _measure(self, load: Load, setting: Setting, clients: int) -> Point:
        if setting != self._present:
            self._subject.set(setting)
            self._present = setting
        self._say(f"measuring: {setting_text(setting)}, clients: {clients}")
        before, began_at = self._subject.read(), time.monotonic()
        tally = closed_loop(load, clients)
        after, seconds = self._subject.read(), time.monotonic() - began_at
        answers, batches = after.requests - before.requests, after.batches - before.batches
        return Point(
            setting,
            clients,
            *figures(tally, self._goal.percentile),
            mean_batch=answers / batches if batches > 0 else 0.0,
            processors=(after.processor_s - before.processor_s) / seconds,
            refused=tally.refused.total(),
            has_others=answers > tally.answers,
            is_limited=tally.own_cpu >= GENERATOR_SHARE,
        )

    def _tell(self, points: Sequence[Point], found: Point | None, *, applies: bool) -> None:
        if self._console.is_json:
            self._console.show_json(self._document(points, found, applies=applies))
        else:
            self._console.show(table_lines(points, self._goal))
            self._console.show(["", *curve_lines(points, self._goal), ""])
            self._console.show(self._verdict(found, applies=applies))
        if found is None:
            raise _unreached(points, self._goal)

    def _document(self, points: Sequence[Point], found: Point | None, *, applies: bool) -> Json:
        return {
            "model": self._subject.name,
            "version": self._subject.version,
            "percentile": self._goal.percentile,
            "latency_ms": self._goal.latency_ms,
            "served_before": asdict(self._served.setting),
            "measurements": [asdict(point) for point in points],
            "best": asdict(found) if found else None,
            "command": self._subject.command(found.setting) if found else None,
            "is_applied": applies and found is not None,
        }

    def _verdict(self, found: Point | None, *, applies: bool) -> list[str]:
        if found is None:
            return []
        limit = self._goal.latency_ms
        within = f" with {self._goal.tail} within {limit:g} ms" if limit else ""
        reached = f"{found.per_second:.1f} requests/s, {self._goal.tail} {found.tail_ms:.2f} ms"
        told = f"Best{within}: {setting_text(found.setting)}: {reached}."
        command = self._subject.command(found.setting)
        return [told, "It is set." if applies else f"To set it: {command}"]

    def _say(self, text: str) -> None:
        """How far it is, beside the answer."""
        if not self._console.is_quiet:
            print(text, file=self._console.errors, flush=True)


def figures(tally: Tally, percentile: float) -> tuple[float, float, float]:
    """Answers per second, the median and the percentile of the latency in milliseconds."""
    latencies = sorted(tally.latencies_s)
    if not latencies:
        return 0.0, 0.0, 0.0
    shares = (0.5, percentile / 100)
    p50_s, tail_s = (latencies[min(len(latencies) - 1, int(len(latencies) * s))] for s in shares)
    return len(latencies) / tally.seconds, 1000 * p50_s, 1000 * tail_s


def _unreached(points: Sequence[Point], goal: Goal) -> Failure:
    quickest = min((p.tail_ms for p in points if p.tail_ms), default=0.0)
    what = f"no setting keeps {goal.tail} within {goal.latency_ms or 0:g} ms"
    why = f"the least that was measured is {quickest:.2f} ms"
    return Failure(
        Status.FAILED, what, why, "ask for more time: --latency; or make the model faster"
    )
