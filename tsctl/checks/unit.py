"""What systemd says of tsd's units: how the last start went, what drop-ins change, the sockets."""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from tsctl.checks.finding import Finding, good, together, unseen, wrong
from tsctl.machine import SERVICE, SOCKETS, Machine, Output, Scope

# Without these two nobody reaches the daemon; the others may be switched off.
NEEDED = ("tsd-http.socket", "tsd-control.socket")
COMPLAINT = re.compile(r"(/\S*tsd[\w.-]*(?:service|socket)\S*\.?\S*:\d+: .*)")


@dataclass(frozen=True)
class Rule:
    """A property of the service, the values that do harm, and which harm."""

    name: str
    harmful: str
    harm: str


ALWAYS = (
    Rule("Type", r"(?!notify)", "systemd does not learn when the daemon is ready"),
    Rule("Restart", r"(?!always$)", "a daemon that dies stays away"),
    Rule("StartLimitIntervalUSec", r"(?!0$)", "after some restarts systemd gives up"),
    Rule("KillMode", r"(?!mixed$)", "a stop does not end workers after the daemon"),
    Rule("WatchdogUSec", r"(0|infinity)$", "a daemon that hangs is not ended"),
)
# What a user's own service manager cannot give is asked of the machine's only.
OF_THE_SYSTEM = (
    Rule("User", r"(root|0)?$", "the daemon and its handlers are root"),
    Rule("NoNewPrivileges", r"no$", "handlers may gain privileges"),
    Rule("ProtectSystem", r"(?!strict$)", "handlers may write to the system's files"),
    Rule("CapabilityBoundingSet", r".", "handlers may have capabilities"),
    Rule("SystemCallFilter", r"$", "handlers may call whatever the kernel offers"),
)


def service(machine: Machine) -> Finding:
    unit = machine.unit
    if not unit:
        return _no_unit(machine)
    state, how = unit.get("ActiveState", ""), unit.get("SubState", "")
    said = f"{SERVICE} is {state} ({how})"
    restarts = unit.get("NRestarts", "0")
    if restarts != "0":
        said += f", restarted by systemd {restarts} times"
    is_tried_again = state == "activating" and restarts != "0"
    if state == "failed" or how == "auto-restart" or is_tried_again:
        end = f"last end: {unit.get('Result')}, exit status {unit.get('ExecMainStatus')}"
        return wrong(f"{said}; {end}", "journalctl -u tsd -n 50")
    if state == "active" and unit.get("UnitFileState") == "disabled":
        return wrong(
            f"{said}, but a reboot does not start it", f"{machine.systemctl_words} enable tsd"
        )
    return good(said)


def _no_unit(machine: Machine) -> Finding:
    return unseen(machine.without_systemd or f"there is no {SERVICE}")


def sockets(machine: Machine) -> Finding:
    if not machine.unit:
        return _no_unit(machine)
    states = {
        name: machine.units.get(name, {}).get("ActiveState", "not installed")
        for name in (f"tsd-{door}.socket" for door in SOCKETS)
    }
    off = [name for name in states if states[name] != "active" and _is_wanted(machine, name)]
    if not off:
        return good(", ".join(name for name in states if states[name] == "active"))
    text = ", ".join(f"{name} is {states[name]}" for name in off)
    return wrong(text, f"{machine.systemctl_words} enable {' '.join(off)}; {opening(machine, off)}")


def opening(machine: Machine, names: Sequence[str]) -> str:
    """How sockets are opened anew: systemd does not while their service runs."""
    systemctl = machine.systemctl_words
    return f"{systemctl} stop tsd; {systemctl} restart {' '.join(names)} tsd"


def _is_wanted(machine: Machine, name: str) -> bool:
    return name in NEEDED or machine.units.get(name, {}).get("UnitFileState") == "enabled"


def drop_ins(machine: Machine) -> Finding:
    if not machine.unit:
        return _no_unit(machine)
    paths = shlex.split(machine.unit.get("DropInPaths", ""))
    findings = [good(", ".join(paths) if paths else "none")]
    if any(unit.get("NeedDaemonReload") == "yes" for unit in machine.units.values()):
        fix = f"{machine.systemctl_words} daemon-reload && {machine.systemctl_words} restart tsd"
        findings.append(wrong("units were changed on disk since systemd read them", fix))
    findings += [_harm(machine, rule, paths) for rule in broken(machine.unit, machine.scope)]
    findings += [wrong(line, "correct that line") for line in _complaints(machine)]
    return together(findings)


def broken(unit: Mapping[str, str], scope: Scope) -> list[Rule]:
    """The rules that the service, as systemd has it, does not keep."""
    rules = ALWAYS + OF_THE_SYSTEM if scope is Scope.SYSTEM else ALWAYS
    return [rule for rule in rules if rule.name in unit and re.match(rule.harmful, unit[rule.name])]


def _harm(machine: Machine, rule: Rule, paths: list[str]) -> Finding:
    directive = re.compile(rf"^\s*{rule.name.replace('USec', 'Sec')}\s*=", re.MULTILINE)
    files = [path for path in paths if directive.search(machine.text(path))]
    where = files[-1] if files else machine.unit.get("FragmentPath", SERVICE)
    value = machine.unit[rule.name] or "nothing"
    fix = f"take {rule.name.replace('USec', 'Sec')}= out of {where}"
    return wrong(f"{rule.name}={value[:40]}: {rule.harm}", fix)


def _complaints(machine: Machine) -> list[str]:
    """Lines of tsd's units and drop-ins that systemd does not understand."""
    user = ("--user",) if machine.scope is Scope.USER else ()
    said: Output = machine.execute(("systemd-analyze", *user, "verify", SERVICE))
    return COMPLAINT.findall(said.errors)[:5]
