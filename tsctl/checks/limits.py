"""The limits that the daemon's process was given, and its users' rights."""

from __future__ import annotations

import re

from tsctl.checks.doors import OPERATORS
from tsctl.checks.finding import Finding, good, unseen, wrong
from tsctl.checks.gpu import driver_version
from tsctl.machine import Machine, Scope

# The http door alone takes 10,000 connections.
LEAST_FILES = 10_240
UNLIMITED = ("unlimited", "infinity")


def memlock(machine: Machine) -> Finding:
    limit = _limit(machine, "Max locked memory", "LimitMEMLOCK")
    if not limit:
        return unseen("no daemon whose limit could be read")
    if limit in UNLIMITED:
        return good("not limited")
    text = f"{int(limit) // 1024} KiB may be locked"
    if not driver_version(machine):
        return good(f"{text}, which matters with a GPU only")
    return wrong(f"{text}, so copies to the GPU are slow", _raise(machine, "LimitMEMLOCK=infinity"))


def open_files(machine: Machine) -> Finding:
    limit = _limit(machine, "Max open files", "LimitNOFILE")
    if not limit:
        return unseen("no daemon whose limit could be read")
    if limit in UNLIMITED or int(limit) >= LEAST_FILES:
        return good(limit)
    text = f"{limit}, and the http door alone takes 10000 connections"
    return wrong(text, _raise(machine, "LimitNOFILE=65536"))


def _limit(machine: Machine, name: str, directive: str) -> str:
    """The soft limit of the daemon, else that which its next one will get."""
    said = machine.text(f"/proc/{machine.pid}/limits") if machine.pid else ""
    found = re.search(rf"^{name}\s+(\w+)", said, re.MULTILINE)
    return found[1] if found else machine.unit.get(directive, "")


def _raise(machine: Machine, directive: str) -> str:
    if not machine.unit:
        return f"raise it with ulimit before tsd starts, as {directive} would"
    return f"{machine.systemctl_words} edit tsd, there [Service] {directive}, then restart tsd"


def groups(machine: Machine) -> Finding:
    if machine.scope is not Scope.SYSTEM:
        return unseen("only the machine's daemon has operators")
    if machine.unit and machine.service_account is None:
        user = machine.unit.get("User") or "tsd"
        return wrong(f"there is no user {user}", "sudo apt install --reinstall tsd")
    caller, operators = machine.caller, machine.group(OPERATORS)
    if caller.uid == 0:
        return good("root may do everything")
    if operators is None:
        return unseen(f"there is no group {OPERATORS}")
    if operators in caller.gids:
        return good(f"{caller.name} is in {OPERATORS}")
    listed = machine.account(caller.name)
    if listed is not None and operators in listed.gids:
        return wrong(f"{caller.name} joined {OPERATORS} since it logged in", "log in again")
    fix = f"sudo usermod -aG {OPERATORS} {caller.name}, then log in again"
    return wrong(f"{caller.name} is not in {OPERATORS}, so tsctl needs sudo", fix)
