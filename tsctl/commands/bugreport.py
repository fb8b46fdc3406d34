"""tsctl bugreport: what whoever looks for a fault needs, in one archive, without secrets.

Never in it: archives, weights, what clients sent, the file of tokens."""

from __future__ import annotations

import io
import json
import os
import tarfile
import time
from argparse import Namespace
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from stat import filemode
from typing import IO

from tsctl.client import Client
from tsctl.commands import doctor
from tsctl.console import Console
from tsctl.failure import Failure, Json, Status
from tsctl.format import byte_count, table
from tsctl.machine import OUTPUT_BYTES, SERVICE, SOCKETS, Machine, Output, Scope, this_machine
from tsctl.redaction import Redaction, redaction_of
from tsctl.version import installed_version

BUDGET_S = 30.0
LOG_LINES = 2000
MODELS, LISTED_FILES = 100, 2000
UNITS = (SERVICE, *(f"tsd-{name}.socket" for name in SOCKETS))
FIRST_PERSON = 1000
MACHINE_FILES = (
    *("/etc/os-release", "/proc/version", "/proc/uptime", "/proc/loadavg", "/proc/meminfo"),
    *("/proc/sys/vm/overcommit_memory", "/proc/driver/nvidia/version"),
)
DAEMON_FILES = ("status", "limits", "cgroup", "oom_score_adj")
CGROUP_FILES = ("memory.current", "memory.max", "memory.events", "pids.max", "cpu.max")


@dataclass(frozen=True)
class Part:
    """One file of the archive, without secrets, and what it is for."""

    name: str
    text: str
    purpose: str


def run(arguments: Namespace, client: Client, console: Console) -> None:
    path = arguments.output or Path(time.strftime("tsd-bugreport-%Y%m%d-%H%M%S.tar.gz"))
    with new_file(path, replaces=arguments.force) as file:
        machine = this_machine(client, BUDGET_S)
        parts = list(collect(machine, redaction_for(machine, os.uname().nodename)))
        write(file, parts)
    show(path, parts, console)


@contextmanager
def new_file(path: Path, *, replaces: bool) -> Iterator[IO[bytes]]:
    """A file for its owner alone, which stays if all goes well."""
    if replaces and path.is_file():
        path.unlink()
    try:
        number = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        why = "something of that name is there"
        fix = "--force replaces a file; --output FILE writes to another one"
        raise Failure(Status.FAILED, f"cannot write {path}", why, fix) from None
    try:
        with os.fdopen(number, "wb") as file:
            yield file
    except BaseException:
        path.unlink(missing_ok=True)
        raise


def redaction_for(machine: Machine, host: str) -> Redaction:
    """Takes out the names of this machine and of the people on it."""
    rows = [line.split(":") for line in machine.text("/etc/passwd").splitlines()]
    people = [r[0] for r in rows if len(r) > 2 and r[2].isdecimal() and int(r[2]) >= FIRST_PERSON]
    people += [machine.caller.name, machine.environment.get("SUDO_USER", "")]
    return redaction_of([host, machine.text("/etc/hostname")], people)


def collect(machine: Machine, redaction: Redaction) -> Iterator[Part]:
    for name, source in SOURCES.items():
        text = redaction.apply(source.read(machine))
        yield Part(name, text[-OUTPUT_BYTES:], source.purpose)


def write(file: IO[bytes], parts: Sequence[Part]) -> None:
    with tarfile.open(fileobj=file, mode="w:gz") as archive:
        for part in parts:
            data = part.text.encode("utf-8", "replace")
            member = tarfile.TarInfo(f"tsd-bugreport/{part.name}")
            member.size, member.mtime, member.mode = len(data), int(time.time()), 0o600
            archive.addfile(member, io.BytesIO(data))


def show(path: Path, parts: Sequence[Part], console: Console) -> None:
    if console.is_json:
        rows = [{"name": p.name, "bytes": len(p.text), "purpose": p.purpose} for p in parts]
        console.show_json({"file": str(path.absolute()), "contents": rows})
        return
    console.confirm(f"wrote {path}, which you alone can read:")
    if not console.is_quiet:
        console.show(
            table(
                ("FILE", "SIZE", "WHAT"),
                [(p.name, byte_count(len(p.text)), p.purpose) for p in parts],
            )
        )
    console.confirm(
        "Passwords, tokens, keys and names were taken out where they could be told by their look;"
    )
    console.confirm(
        f"what handlers print was not. Look before you send it: tar -xzOf {path} | less"
    )


@dataclass(frozen=True)
class Source:
    """Where a part comes from."""

    read: Callable[[Machine], str]
    purpose: str


def said(output: Output) -> str:
    """All that a program said, and how it ended if not well."""
    problem = f"# {output.problem}\n" if output.problem else ""
    return problem + output.text + output.errors


def document(answer: Json | Failure) -> str:
    """The daemon's answer, or why there is none, as JSON."""
    if isinstance(answer, Failure):
        answer = {"unknown": f"{answer.what}: {answer.why}"}
    return json.dumps(answer, indent=2) + "\n"


def _doctor(machine: Machine) -> str:
    return json.dumps(doctor.members(doctor.findings(machine)), indent=2) + "\n"


def _versions(machine: Machine) -> str:
    daemon = machine.told("version") or "unknown"
    systemd = said(machine.execute(("systemctl", "--version"))).partition("\n")[0]
    found = {"tsctl": installed_version(), "tsd": daemon, "systemd": systemd}
    return "".join(f"{name}: {version}\n" for name, version in found.items())


def _units(machine: Machine) -> str:
    return said(machine.systemctl("cat", *UNITS))


def _unit_states(machine: Machine) -> str:
    # Without the journal's lines, which have a part of their own.
    return said(machine.systemctl("status", "--lines=0", "--full", *UNITS))


def _unit_properties(machine: Machine) -> str:
    return said(machine.systemctl("show", SERVICE))


def _journal(machine: Machine) -> str:
    if not machine.unit:
        return f"# {machine.without_systemd or f'there is no {SERVICE}'}\n"
    unit = "--user-unit" if machine.scope is Scope.USER else "--unit"
    options = ("--no-pager", "--no-hostname", "--output=short-iso-precise")
    return said(machine.execute(("journalctl", *options, f"--lines={LOG_LINES}", unit, SERVICE)))


def _log(machine: Machine) -> str:
    return document(machine.ask_if_awake(f"/tsd/logs?lines={LOG_LINES}"))


def _models(machine: Machine) -> str:
    status = machine.status
    if isinstance(status, Failure):
        return document(status)
    found = {}
    for row in (status.get("models") or [])[:MODELS]:
        path = f"/tsd/models/{row['name']}/{row['version']}"
        found[path] = json.loads(document(machine.ask(path)))
    return document(found)


def _runtimes(machine: Machine) -> str:
    return document(machine.ask_if_awake("/tsd/runtimes"))


def _machine(machine: Machine) -> str:
    pid = machine.pid
    group = machine.text(f"/proc/{pid}/cgroup").rpartition("::")[2].strip() if pid else ""
    names = [
        *MACHINE_FILES,
        *(f"/proc/{pid}/{name}" for name in DAEMON_FILES if pid),
        *(f"/sys/fs/cgroup{group}/{name}" for name in CGROUP_FILES if group),
    ]
    files = "".join(f"==> {name}\n{machine.text(name) or '# not readable'}\n" for name in names)
    return files + f"==> one processor\n{machine.text('/proc/cpuinfo').partition(chr(10) * 2)[0]}\n"


def _gpus(machine: Machine) -> str:
    return said(machine.execute(("nvidia-smi",)))


def _files(machine: Machine) -> str:
    folders = [machine.state_dir, str(Path(machine.socket).parent)]
    return "".join(line + "\n" for folder in folders for line in listing(machine, folder))


def listing(machine: Machine, folder: str) -> Iterator[str]:
    """Modes, sizes and names of what lies in a folder, up to a number."""
    yield f"==> {folder}"
    top, left = machine.path(folder), LISTED_FILES
    for place, folders, files in os.walk(top, onerror=lambda error: None):
        for name in sorted(folders + files):
            if left == 0:
                yield "# and more"
                return
            left -= 1
            yield from _listed(Path(place, name), top)


def _listed(path: Path, top: Path) -> Iterator[str]:
    # It may be gone by now.
    with suppress(OSError):
        found = path.lstat()
        owner = f"{found.st_uid}:{found.st_gid}"
        yield f"{filemode(found.st_mode)} {owner:>11} {found.st_size:>12} {path.relative_to(top)}"


SOURCES: Mapping[str, Source] = {
    "doctor.json": Source(_doctor, "what tsctl doctor finds"),
    "versions.txt": Source(_versions, "of tsd, tsctl and systemd"),
    "config.toml": Source(lambda machine: said(machine.config), "every setting and its origin"),
    "status.json": Source(lambda machine: document(machine.status), "the daemon at a glance"),
    "models.json": Source(_models, "every model, its workers and its last error"),
    "runtimes.json": Source(_runtimes, "the interpreters that have torch"),
    "journal.txt": Source(_journal, "the last lines of the journal"),
    "log.json": Source(_log, "the daemon's last records"),
    "units.txt": Source(_units, "units and drop-ins"),
    "unit-states.txt": Source(_unit_states, "what systemctl status says"),
    "unit-properties.txt": Source(_unit_properties, "the service as systemd has it"),
    "machine.txt": Source(_machine, "kernel, processor, memory, limits"),
    "gpus.txt": Source(_gpus, "what nvidia-smi says"),
    "files.txt": Source(_files, "names and sizes in the state and runtime directories"),
}
