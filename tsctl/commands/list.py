"""tsctl list: one line for each version of each model."""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Callable, Sequence

from tsctl.client import Client
from tsctl.console import Console
from tsctl.failure import Json
from tsctl.format import cell, first_line, table

HEADINGS = ("MODEL", "VERSION", "DEFAULT", "STATE", "WORKERS", "QUEUE", "REQUESTS", "ERRORS")
# Columns that stand there only where they say something.
OPTIONAL: dict[str, Callable[[Sequence[Json]], bool]] = {
    "runtime": lambda models: len({model.get("runtime") for model in models}) > 1,
    "last_error": lambda models: any(model.get("last_error") for model in models),
}
NO_MODELS = "no model is registered; `tsctl register ARCHIVE` makes one known"


def run(_: Namespace, client: Client, console: Console) -> None:
    document = client.fetch("/tsd/models")
    if console.is_json:
        console.show_json(document)
    else:
        console.show(model_lines(document.get("models") or [], console))


def model_lines(models: Sequence[Json], console: Console) -> list[str]:
    """A table, a line a model in the colour of its state; a last error is clipped."""
    if not models:
        return [NO_MODELS]
    optional = [name for name, differs in OPTIONAL.items() if differs(models)]
    rows = [
        [*model_row(model), *(first_line(model.get(key)) for key in optional)] for model in models
    ]
    heading, *lines = table([*HEADINGS, *(key.replace("_", " ").upper() for key in optional)], rows)
    coloured = (console.state(m.get("state"), x) for x, m in zip(lines, models, strict=True))
    return [console.colour(heading, "bold"), *coloured]


def model_row(model: Json) -> list[str]:
    return [
        cell(model.get("name")),
        cell(model.get("version")),
        "*" if model.get("is_default") else "",
        _state(model),
        f"{serving_workers(model)}/{cell(model.get('wanted_workers'))}",
        *(cell(model.get(name)) for name in ("queue", "requests", "errors")),
    ]


def _state(model: Json) -> str:
    """The state, and while it is loading how far it is."""
    state, phase = cell(model.get("state")), model.get("phase")
    return f"{state} ({cell(phase)})" if phase and phase != state else state


def serving_workers(model: Json) -> int:
    """Workers that can take a batch, now or after the present one."""
    workers = model.get("workers") or {}
    return int(workers.get("idle", 0)) + int(workers.get("busy", 0))
