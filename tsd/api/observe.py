"""What a monitor or an operator may see: health, metrics, status, the log."""

from __future__ import annotations

import asyncio
import json
import os
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from urllib.parse import parse_qs

from tsd import metrics, process
from tsd.api import answers
from tsd.api.described import utc_text
from tsd.api.parameters import number
from tsd.api.routes import Call, CallHandler
from tsd.errors import BadRequest
from tsd.http.message import Response, Stream
from tsd.log import LEVELS, LogRing, Record
from tsd.operations import furthest_behind
from tsd.runtimes.book import Runtime
from tsd.serving.fork_server import ForkServer
from tsd.serving.fork_servers import ForkServers
from tsd.serving.model import Model, ModelState
from tsd.serving.registry import Registry
from tsd.serving.worker_handle import WorkerHandle, WorkerState
from tsd.system_load import Reading
from tsd.torchserve_metrics import TorchServeMetrics
from tsd.version import own_version

METRICS_TYPE = b"text/plain; version=0.0.4; charset=utf-8"
LOG_LINES = 100
# So many are looked at in one turn of the loop: all of them would hold it too long.
MODELS_AT_ONCE = 100


@dataclass(frozen=True, slots=True)
class DaemonFacts:
    """What the daemon says of itself, asked anew for each answer where it changes."""

    state: Callable[[], str]
    connections: Callable[[], int]
    doors: Callable[[], list[dict[str, str]]]
    log_dropped: Callable[[], int]
    readings: Callable[[], list[Reading]]
    torchserve_metrics: TorchServeMetrics
    # Whether the metrics page has tsd's own metrics, too.
    shows_own_metrics: bool
    runtime_dir: Path
    state_dir: Path
    started_at: float


class Observe:
    """The handlers, and which doors they stand at."""

    def __init__(
        self, registry: Registry, fork_servers: ForkServers, ring: LogRing, facts: DaemonFacts
    ) -> None:
        self._registry = registry
        self._fork_servers = fork_servers
        self._ring = ring
        self._facts = facts
        # The answers to those who follow the log.
        self._followed: set[Stream] = set()

    @property
    def health_routes(self) -> dict[tuple[str, str], CallHandler]:
        """For everybody who may ask for predictions."""
        return {
            ("*", "/ping"): self.ping,
            ("GET", "/v2/health/live"): self.live,
            ("GET", "/v2/health/ready"): self.ready,
        }

    @property
    def metrics_routes(self) -> dict[tuple[str, str], CallHandler]:
        """For Prometheus."""
        return {("*", "/metrics/*"): self.metrics_page}

    @property
    def operator_routes(self) -> dict[tuple[str, str], CallHandler]:
        """For operators: tsd's own."""
        return {
            ("GET", "/tsd/status"): self.status,
            ("GET", "/tsd/models"): self.models,
            ("GET", "/tsd/models/{model}"): self.model,
            ("GET", "/tsd/models/{model}/{version}"): self.model,
            ("GET", "/tsd/logs"): self.logs,
        }

    async def ping(self, _call: Call) -> Response:
        """TorchServe's health: enough workers live, or on their way, for every default version."""
        if self.is_healthy():
            return answers.json_answer({"status": "Healthy"})
        return answers.json_answer({"status": "Unhealthy"}, 500)

    def is_healthy(self) -> bool:
        """Whether every default version has enough workers, or will have."""
        models = [self._registry.find(name) for name in self._registry.names]
        return all(_has_its_workers(model) for model in models)

    async def live(self, _call: Call) -> Response:
        """The loop turns."""
        return answers.json_answer({"live": True})

    async def ready(self, _call: Call) -> Response:
        """Every model that is wanted is ready."""
        is_ready = self.is_ready()
        return answers.json_answer({"ready": is_ready}, 200 if is_ready else 503)

    def is_ready(self) -> bool:
        """Whether the daemon and every model that is wanted are ready."""
        return self._facts.state() == "ready" and all(
            model.state is ModelState.READY for model in self._registry if model.pool.wanted
        )

    async def metrics_page(self, call: Call) -> Response:
        """All figures in Prometheus' text format, or those of `?name[]=A&name[]=B`."""
        facts, readings = self._facts, self._facts.readings()
        names = parse_qs(call.request.query, keep_blank_values=True).get("name[]", [])
        snapshots = [model.snapshot() async for model in self._models()]
        connections = facts.connections()

        def render() -> bytes:
            # Its library is slow to import, and not needed to start.
            from tsd.metrics_page import page

            own = page(snapshots, connections, names) if facts.shows_own_metrics else b""
            return own + facts.torchserve_metrics.page(readings, names).encode()

        # Rendering many models takes longer than the loop may be held. The thread only reads.
        page = await asyncio.get_running_loop().run_in_executor(None, render)
        return answers.text_answer(page, METRICS_TYPE)

    async def status(self, _call: Call) -> Response:
        """The daemon at a glance."""
        facts, rows = self._facts, [self._row(model) async for model in self._models()]
        default = self._fork_servers.runtimes.default
        server = self._fork_servers.find(default.name) if default else None
        body = {
            "version": own_version(),
            "pid": os.getpid(),
            "state": facts.state(),
            "uptime_s": round(time.monotonic() - facts.started_at, 1),
            "runtime": _runtime_row(default, server),
            "fork_server": {
                "pid": server.pid if server else 0,
                "state": server.state.value if server else "none",
            },
            "doors": facts.doors(),
            "models": rows,
            "requests": sum(model.figures.requests for model in self._registry),
            "errors": sum(sum(model.figures.errors.values()) for model in self._registry),
            "rss_bytes": process.rss_bytes(os.getpid()),
            "log_dropped": facts.log_dropped(),
            "runtime_dir": str(facts.runtime_dir),
            "state_dir": str(facts.state_dir),
        }
        return await asyncio.to_thread(answers.json_answer, body)

    async def models(self, _call: Call) -> Response:
        """A row for each version of each model."""
        rows = [self._row(model) async for model in self._models()]
        return await asyncio.to_thread(answers.json_answer, {"models": rows})

    async def model(self, call: Call) -> Response:
        """Everything about one version."""
        found = self._registry.find(call.parts["model"], call.parts.get("version"))
        return answers.json_answer(self._row(found) | _details(found))

    async def logs(self, call: Call) -> Response | None:
        """The last records, and with `follow=true` those to come, a JSON object a line."""
        query = call.query
        wanted, level = query.get("model") or None, query.get("level") or "debug"
        if level not in LEVELS:
            raise BadRequest(f"Unknown level: {level[:20]}", fix=f"one of {', '.join(LEVELS)}")
        lines = max(0, number(query, "lines", LOG_LINES))
        head = answers.head(answers.new_request_id(), answers.NDJSON_TYPE)
        stream = call.request.stream(Response(200, b"", head, answers.OK))
        for record in self._ring.records(lines, wanted, level):
            stream.send(_log_line(record))
        if query.get("follow", "").lower() == "true":
            self._follow(call, stream, wanted, level)
        else:
            stream.end()
        return None

    def _follow(self, call: Call, stream: Stream, wanted: str | None, level: str) -> None:
        def tell(record: Record) -> None:
            # A reader that is too slow misses lines; the daemon does not hold them for it.
            is_asked_for = wanted in (None, record.get("model")) and (
                LEVELS[record["level"]] >= LEVELS[level]
            )
            if is_asked_for and stream.is_open and not stream.wants_pause:
                stream.send(_log_line(record))

        unsubscribe = self._ring.subscribe(tell)
        self._followed.add(stream)

        def forget() -> None:
            unsubscribe()
            self._followed.discard(stream)

        call.request.on_disconnect = forget

    def end_streams(self) -> None:
        """Who follows the log is not waited for when the daemon stops."""
        for stream in tuple(self._followed):
            stream.end()

    async def _models(self) -> AsyncIterator[Model]:
        """Every version of every model that is still there; the loop turns meanwhile."""
        for place, model in enumerate(tuple(self._registry), start=1):
            if place % MODELS_AT_ONCE == 0:
                await asyncio.sleep(0)
            if model.state is not ModelState.UNLOADED:
                yield model

    def _row(self, model: Model) -> dict[str, object]:
        states = {state.value: 0 for state in WorkerState if state is not WorkerState.EXITED}
        for worker in model.pool.workers.values():
            states[worker.state.value] += 1
        last = model.pool.last_error
        loading = [w.phase for w in model.pool.workers.values() if not w.is_serving]
        return {
            "name": model.name,
            "version": model.version,
            "is_default": self._registry.default_version(model.name) == model.version,
            "state": model.state.value,
            "phase": furthest_behind(loading) if loading else model.state.value,
            "workers": states,
            "runtime": model.runtime.name,
            "wanted_workers": model.pool.wanted,
            "queue": len(model.batcher.waiting),
            "requests": model.figures.requests,
            "errors": sum(model.figures.errors.values()),
            "last_error": last.cause if last else None,
        }


def _has_its_workers(model: Model) -> bool:
    """TorchServe's rule: a place counts unless its workers have failed for the whole window."""
    window_s = model.description.retry_window_s
    has_given_up = model.pool.has_failed_for(window_s, time.monotonic())
    return not has_given_up or not model.pool.wanted


def _details(model: Model) -> dict[str, object]:
    description, figures, last = model.description, model.figures, model.pool.last_error
    batches = figures.batch_rows.observed
    return {
        "handler": description.handler,
        "archive": description.url,
        "batch_size": description.batch_size,
        "max_batch_delay_ms": round(1000 * description.batch_delay_s),
        "response_timeout_s": description.response_timeout_s,
        "startup_timeout_s": description.startup_timeout_s,
        "min_workers": model.min_workers,
        "max_workers": model.max_workers,
        "device": description.device_type or "auto",
        "origins": description.origins | _scaled(model),
        "queue": {"waiting": len(model.batcher.waiting), "limit": description.queue_size},
        "mean_batch": round(figures.batch_rows.total / batches, 2) if batches else None,
        "latency_ms": _latency_ms(figures.latency_s),
        "errors_by_code": figures.errors,
        "workers": [_worker_row(worker) for worker in model.pool.workers.values()],
        "restarts": model.pool.counts.restarts,
        "last_error": last
        and {"at": utc_text(last.at), "cause": last.cause, "traceback": last.traceback},
    }


def _runtime_row(runtime: Runtime | None, server: ForkServer | None) -> dict[str, str]:
    """The default runtime at a glance."""
    return {
        "name": runtime.name if runtime else "",
        "python": runtime.python if runtime else "",
        "torch": server.versions.get("torch", "") if server else "",
        "state": server.state.value if server else "none",
    }


def _scaled(model: Model) -> dict[str, str]:
    """Worker counts that an operator has changed since."""
    described = (model.description.min_workers, model.description.max_workers)
    is_changed = (model.min_workers, model.max_workers) != described
    return {"min_workers": "scaled", "max_workers": "scaled"} if is_changed else {}


def _latency_ms(histogram: metrics.Histogram) -> dict[str, float] | None:
    if not histogram.observed:
        return None
    return {
        name: 1000 * (histogram.quantile(share) or 0.0)
        for name, share in (("p50", 0.5), ("p99", 0.99))
    }


def _worker_row(worker: WorkerHandle) -> dict[str, object]:
    ready_s = worker.ready_after_s
    return {
        "number": worker.number,
        "pid": worker.pid,
        "state": worker.state.value,
        "phase": worker.phase,
        "device": worker.arguments.device,
        "started_at": utc_text(worker.started_at),
        "ready_ms": None if ready_s is None else round(1000 * ready_s, 1),
        "rss_bytes": sum(map(process.rss_bytes, worker.pids)),
        "batches": worker.batches,
    }


def _log_line(record: Record) -> bytes:
    rest = {key: value for key, value in record.items() if key not in ("time", "text", "level")}
    words = {
        "timestamp": utc_text(datetime.fromtimestamp(record["time"], UTC)),
        "level": record["level"],
        "event": record["text"],
    }
    return json.dumps(words | rest, default=str).encode() + b"\n"
