"""tsctl migrate: a config.properties of TorchServe's as a tsd.toml, and what became of each key.

tsd itself translates, as it would at its start; this shows what it says."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from argparse import Namespace
from collections.abc import Iterator
from pathlib import Path

from tsctl.client import Client
from tsctl.console import Console
from tsctl.failure import Failure, Json, Status
from tsctl.format import cell, escape, table

HEADINGS = ("KEY", "NOW", "BECOMES", "WHY")


def run(arguments: Namespace, _: Client, console: Console) -> None:
    show(migrated(arguments.file), arguments, console)


def show(migration: Json, arguments: Namespace, console: Console) -> None:
    """The settings and the table, where the operator wants them."""
    if console.is_json:
        console.show_json(migration)
        return
    lines = list(table_lines(migration))
    if arguments.output is None:
        # Apart from the table, so that `> tsd.toml` holds settings only.
        print(migration["toml"], end="", file=console.output)
        print(*lines, sep="\n", file=console.errors)
        return
    # "x": a file that is there is never written over.
    with arguments.output.open("x", encoding="utf-8") as file:
        file.write(migration["toml"])
    console.show(lines)
    console.confirm(f"wrote {arguments.output}; check it with tsd --config FILE --check-config")


def migrated(file: Path) -> Json:
    """What tsd says: the text of the new file, and a row for each key of the old one."""
    command = [sys.executable, "-P", "-m", "tsd", "--migrate", str(file)]
    # tsd is where tsctl is, which need not be where Python looks by itself.
    places = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    answer = subprocess.run(command, env=places, capture_output=True, text=True, check=False)
    if answer.returncode:
        raise failure_from(answer.stderr)
    found: Json = json.loads(answer.stdout)
    return found


def table_lines(migration: Json) -> Iterator[str]:
    rows = [
        (cell(row["key"]), row["verdict"], cell(row["becomes"]), cell(row["why"]))
        for row in migration["table"]
    ]
    yield from table(HEADINGS, rows)
    for warning in migration["warnings"]:
        yield f"warning: {escape(warning)}"


def failure_from(said: str) -> Failure:
    """What tsd wrote in its three lines."""
    found = dict(line.strip().split(": ", 1) for line in said.splitlines() if ": " in line)
    what = found.get("tsd") or "tsd could not be run"
    return Failure(Status.FAILED, what, found.get("why", ""), found.get("fix", ""))
