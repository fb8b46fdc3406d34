"""The configuration as tsd would read it now, and the clock."""

from __future__ import annotations

from datetime import UTC, datetime

from tsctl.checks.finding import AS_ROOT, Finding, good, unseen, wrong
from tsctl.format import first_line
from tsctl.machine import Machine

DAY_S = 86_400


def configuration(machine: Machine) -> Finding:
    config = machine.config
    warnings = [line for line in config.errors.splitlines() if line.startswith("tsd: warning: ")]
    if config.problem:
        return _refused(config.errors, config.problem)
    if warnings:
        return wrong(warnings[0].removeprefix("tsd: warning: "), "correct it in tsd.toml")
    return good("valid")


def _refused(said: str, problem: str) -> Finding:
    """What tsd wrote in its three lines; without them it did not get so far."""
    words = dict(line.strip().split(": ", 1) for line in said.splitlines() if ": " in line)
    what, why = words.get("tsd"), words.get("why", "")
    if what is None and said.strip():
        last = first_line(said.rstrip().rpartition("\n")[2])
        return wrong(f"tsd broke off: {last}", "sudo apt install --reinstall tsd")
    if what is None:
        return unseen(f"tsd could not be asked: {problem}")
    if "permission denied" in f"{what} {why}".lower():
        return unseen(f"{what}: {why}", AS_ROOT)
    return wrong(f"{what}: {why}".strip(": "), words.get("fix") or "see tsd.toml(5)")


def clock(machine: Machine) -> Finding:
    if machine.now < machine.built_at - DAY_S:
        today = datetime.fromtimestamp(machine.now, UTC).date()
        return wrong(f"it says {today}, before tsd was built", "sudo timedatectl set-ntp true")
    said = machine.execute(("timedatectl", "show"))
    if said.problem:
        return unseen(f"timedatectl: {said.problem}")
    words = dict(line.split("=", 1) for line in said.text.splitlines() if "=" in line)
    if words.get("NTPSynchronized") == "yes":
        return good("synchronised")
    if words.get("CanNTP") != "yes":
        return unseen("nothing on this machine synchronises it (in a container: its host does)")
    return wrong("not synchronised", "sudo timedatectl set-ntp true")
