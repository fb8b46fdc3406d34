"""tsctl doctor: what is wrong on this machine, and what to type about it.

Needs no daemon, no systemd and no rights; says what it could not see without them."""

from __future__ import annotations

import sys
from argparse import Namespace
from collections.abc import Callable, Iterator, Mapping

from tsctl.checks import daemon, doors, gpu, limits, settings, storage, unit
from tsctl.checks.finding import Finding
from tsctl.client import Client
from tsctl.console import Console
from tsctl.failure import Json, Status
from tsctl.format import cell
from tsctl.machine import Machine, this_machine

BUDGET_S = 8.0
MARKS = {True: "✔", False: "✘", None: "\N{EN DASH}"}
ASCII_MARKS = {True: "+", False: "x", None: "-"}
COLOURS = {True: "green", False: "red", None: "dim"}

CHECKS: Mapping[str, Callable[[Machine], Finding]] = {
    "daemon": daemon.daemon,
    "versions": daemon.versions,
    "models": daemon.models,
    "runtime": daemon.runtime,
    "driver": gpu.driver,
    "device nodes": gpu.devices,
    "groups": limits.groups,
    "locked memory": limits.memlock,
    "open files": limits.open_files,
    "service": unit.service,
    "socket units": unit.sockets,
    "drop-ins": unit.drop_ins,
    "sockets": doors.sockets,
    "ports": doors.ports,
    "configuration": settings.configuration,
    "state": storage.state_directory,
    "disk": storage.disk,
    "memory": storage.memory,
    "clock": settings.clock,
}


def run(_: Namespace, client: Client, console: Console) -> None:
    found = findings(this_machine(client, BUDGET_S))
    if console.is_json:
        console.show_json(members(found))
    else:
        console.show(lines(found, console))
    if any(finding.ok is False for finding in found.values()):
        # Nothing failed but what was looked at, so there is no failure to explain.
        console.output.flush()
        sys.exit(Status.FAILED)


def findings(machine: Machine) -> dict[str, Finding]:
    return {name: check(machine) for name, check in CHECKS.items()}


def members(found: Mapping[str, Finding]) -> list[Json]:
    """The findings for programs."""
    return [
        {"check": name, "ok": finding.ok, "finding": finding.text, "fix": finding.fix}
        for name, finding in found.items()
    ]


def lines(found: Mapping[str, Finding], console: Console) -> Iterator[str]:
    """A line a check, and a second one where there is something to do; then the sum."""
    marks = MARKS if _can_say(console, "".join(MARKS.values())) else ASCII_MARKS
    width = max(map(len, found))
    for name, finding in found.items():
        mark = console.colour(marks[finding.ok], COLOURS[finding.ok])
        yield f"{mark} {name:<{width}}  {cell(finding.text)}"
        if finding.fix:
            yield f"  {'':<{width}}  fix: {cell(finding.fix)}"
    count = sum(finding.ok is False for finding in found.values())
    yield f"{count} of {len(found)} checks found something wrong" if count else "nothing is wrong"


def _can_say(console: Console, text: str) -> bool:
    try:
        text.encode(console.output.encoding or "utf-8")
    except UnicodeEncodeError:
        return False
    return True
