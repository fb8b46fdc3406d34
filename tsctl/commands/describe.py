"""tsctl describe: one version of a model: settings with their origin, workers, last error."""

from __future__ import annotations

from argparse import Namespace

from tsctl.client import Client, target
from tsctl.console import Console
from tsctl.failure import Json
from tsctl.format import (
    block,
    byte_count,
    cell,
    duration,
    escape,
    fields,
    first_line,
    milliseconds,
    table,
)

# The setting, and how its value is said.
SETTINGS = {
    "handler": cell,
    "batch_size": cell,
    "max_batch_delay_ms": milliseconds,
    "response_timeout_s": duration,
    "startup_timeout_s": duration,
    "min_workers": cell,
    "max_workers": cell,
    "device": cell,
    "runtime": cell,
}
WORKER_HEADINGS = (
    *("WORKER", "PID", "STATE", "DEVICE", "STARTED"),
    *("READY IN", "MEMORY", "BATCHES", "RESTARTS"),
)


def run(arguments: Namespace, client: Client, console: Console) -> None:
    version = (arguments.version,) if arguments.version else ()
    model = client.fetch(target("tsd", "models", arguments.model, *version))
    if console.is_json:
        console.show_json(model)
    else:
        console.show(describe_lines(model, console))


def describe_lines(model: Json, console: Console) -> list[str]:
    return [
        _title(model, console),
        *fields(_figures(model)),
        *_section("Settings", table(("SETTING", "VALUE", "FROM"), _settings(model)), console),
        *_section("Workers", _workers(model, console), console),
        *_last_error(model.get("last_error"), console),
    ]


def _title(model: Json, console: Console) -> str:
    state = model.get("state")
    name = f"{cell(model.get('name'))}/{cell(model.get('version'))}"
    default = " (default version)" if model.get("is_default") else ""
    return f"{console.state(state, '●')} {name}{default}: {console.state(state, cell(state))}"


def _figures(model: Json) -> dict[str, str]:
    queue, latency = model.get("queue") or {}, model.get("latency_ms") or {}
    return {
        "Archive": cell(model.get("archive")),
        "Queue": f"{cell(queue.get('waiting'))} of {cell(queue.get('limit'))}",
        "Requests": f"{cell(model.get('requests'))}, {cell(model.get('errors'))} errors",
        "Mean batch": cell(model.get("mean_batch")),
        "Latency": ", ".join(f"{escape(k)} {milliseconds(v)}" for k, v in latency.items()) or "-",
    }


def _settings(model: Json) -> list[list[str]]:
    return [[name, say(model.get(name)), _origin(model, name)] for name, say in SETTINGS.items()]


def _origin(model: Json, setting: str) -> str:
    """Where a setting came from; origins are known by the name without its unit."""
    origins = model.get("origins") or {}
    return cell(origins.get(setting) or origins.get(setting.rpartition("_")[0]))


def _workers(model: Json, console: Console) -> list[str]:
    workers = model.get("workers") or []
    if not workers:
        return ["none"]
    heading, *lines = table(WORKER_HEADINGS, map(_worker_row, workers))
    rows = zip(lines, workers, strict=True)
    return [heading, *(console.state(worker.get("state"), line) for line, worker in rows)]


def _worker_row(worker: Json) -> list[str]:
    return [
        f"#{cell(worker.get('number'))}",
        *(cell(worker.get(name)) for name in ("pid", "state", "device", "started_at")),
        milliseconds(worker.get("ready_ms")),
        byte_count(worker.get("rss_bytes")),
        *(cell(worker.get(name)) for name in ("batches", "restarts")),
    ]


def _last_error(error: Json | None, console: Console) -> list[str]:
    if not error:
        return []
    heading = f"Last error, {cell(error.get('at'))}: {first_line(error.get('cause'), 200)}"
    traceback = str(error.get("traceback") or "")
    return ["", console.colour(heading, "red"), *(block(traceback) if traceback else [])]


def _section(title: str, lines: list[str], console: Console) -> list[str]:
    return ["", console.colour(title, "bold"), *("  " + line for line in lines)]
