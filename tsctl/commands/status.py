"""tsctl status: the daemon at a glance, then its models."""

from __future__ import annotations

from argparse import Namespace

from tsctl.client import Client
from tsctl.commands.list import model_lines
from tsctl.console import Console
from tsctl.failure import Json
from tsctl.format import byte_count, cell, duration, fields

RUNTIME_KEYS = ("name", "python", "torch", "state")
NO_RUNTIME = "none: `tsctl runtime add PATH` or `tsctl runtime create` gives it one"


def run(_: Namespace, client: Client, console: Console) -> None:
    daemon = client.fetch("/tsd/status")
    if console.is_json:
        console.show_json(daemon)
    else:
        console.show(status_lines(daemon, console))


def status_lines(daemon: Json, console: Console) -> list[str]:
    return [
        _title(daemon, console),
        *fields(_figures(daemon)),
        "",
        *model_lines(daemon.get("models") or [], console),
    ]


def _title(daemon: Json, console: Console) -> str:
    state = daemon.get("state")
    said = f"{console.state(state, cell(state))} for {duration(daemon.get('uptime_s'))}"
    return f"{console.state(state, '●')} tsd {cell(daemon.get('version'))}: {said}"


def _figures(daemon: Json) -> dict[str, str]:
    runtime, fork_server = daemon.get("runtime") or {}, daemon.get("fork_server") or {}
    doors = daemon.get("doors") or []
    return {
        "Process": f"{cell(daemon.get('pid'))}, {byte_count(daemon.get('rss_bytes'))}",
        "Runtime": _runtime(runtime),
        "Fork server": f"{cell(fork_server.get('pid'))}: {cell(fork_server.get('state'))}",
        "Doors": ", ".join(f"{cell(d.get('name'))} {cell(d.get('address'))}" for d in doors) or "-",
        "Requests": f"{cell(daemon.get('requests'))}, {cell(daemon.get('errors'))} errors",
        "State in": cell(daemon.get("state_dir")),
        "Sockets in": cell(daemon.get("runtime_dir")),
    }


def _runtime(runtime: Json) -> str:
    """The default one."""
    if not runtime.get("python"):
        return NO_RUNTIME
    name, python, torch, state = (cell(runtime.get(key)) for key in RUNTIME_KEYS)
    return f"{name}: {python}, torch {torch}: {state}"
