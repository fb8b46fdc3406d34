"""Where clients come in: the Unix sockets, and the TCP ports with whoever holds them."""

from __future__ import annotations

import stat
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from tsctl.checks.finding import AS_ROOT, Finding, good, together, unseen, wrong
from tsctl.checks.unit import NEEDED, opening
from tsctl.failure import Failure
from tsctl.machine import Machine

OPERATORS = "tsd-admin"
# As /proc/net/tcp and /proc/net/unix write it.
TCP_LISTENS, UNIX_LISTENS = "0A", 0x10000
# A door that is not configured otherwise; the settings tell of all others.
DEFAULT_DOORS = {"http": "127.0.0.1:8080", "grpc": "127.0.0.1:7070", "metrics": "127.0.0.1:8082"}
OURS = ("systemd", "tsd")


@dataclass(frozen=True)
class Holder:
    """A listening TCP socket: its user, and its inode, by which its processes are found."""

    uid: int
    inode: str


def sockets(machine: Machine) -> Finding:
    folder = Path(machine.socket).parent
    if not machine.unit and isinstance(machine.status, Failure):
        return unseen("no daemon, so no sockets")
    local = _unix_socket(machine, f"{folder}/http.sock", 0o666, None)
    if not machine.unit:
        return together([_unix_socket(machine, machine.socket, None, None), local])
    operators = machine.group(OPERATORS)
    return together([_unix_socket(machine, machine.socket, 0o660, operators), local])


def _unix_socket(machine: Machine, name: str, mode: int | None, gid: int | None) -> Finding:
    try:
        found = machine.path(name).stat()
    except PermissionError:
        return unseen(f"{name} is not to be seen", AS_ROOT)
    except OSError:
        return wrong(f"{name} is missing", _open_again(machine))
    if not stat.S_ISSOCK(found.st_mode):
        return wrong(f"{name} is no socket", f"sudo rm {name}; {_open_again(machine)}")
    if not _is_listened_at(machine, name):
        return wrong(f"nobody listens at {name}", _open_again(machine))
    if mode is not None and stat.S_IMODE(found.st_mode) != mode:
        text = f"{name} has mode {stat.S_IMODE(found.st_mode):04o}, not {mode:04o}"
        return wrong(text, f"see SocketMode=: systemctl cat {_unit_of(name)}")
    if gid is not None and found.st_gid != gid:
        text = f"{name} belongs to group {found.st_gid}, not {OPERATORS}"
        return wrong(text, f"see SocketGroup=: systemctl cat {_unit_of(name)}")
    return good(name)


def _unit_of(name: str) -> str:
    return f"tsd-{Path(name).stem}.socket"


def _open_again(machine: Machine) -> str:
    if not machine.unit:
        return "start the daemon: tsd"
    return opening(machine, NEEDED)


def _is_listened_at(machine: Machine, name: str) -> bool:
    rows = [line.split() for line in machine.text("/proc/net/unix").splitlines()[1:]]
    # Where the kernel does not tell, the socket is taken at its word.
    return not rows or any(
        row[-1] == name and int(row[3], 16) & UNIX_LISTENS for row in rows if len(row) >= 8
    )


def ports(machine: Machine) -> Finding:
    status = machine.status
    if not isinstance(status, Failure):
        rows = [(row.get("name"), str(row.get("address"))) for row in status.get("doors") or []]
        return good(", ".join(f"{n} {a}" for n, a in rows if not a.startswith("/")) or "none")
    doors: dict[str, str] = machine.settings.get("doors") or DEFAULT_DOORS
    named = {name: port_of(str(address)) for name, address in doors.items()}
    return together([_port(machine, name, port) for name, port in named.items() if port])


def port_of(address: str) -> int:
    """The port of an address; 0 if it has none."""
    word = address.rpartition(":")[2]
    return 0 if address.startswith("/") or not word.isdecimal() else int(word)


def _port(machine: Machine, door: str, port: int) -> Finding:
    holders = list(listening(machine, port))
    if not holders:
        return good(f"{port} ({door}) is free")
    names = {name for holder in holders for name in _processes(machine, holder.inode)}
    if not names:
        text = f"{port} ({door}) is held by a process of user {holders[0].uid}"
        is_systemds = holders[0].uid == 0 and bool(machine.unit)
        return good(text) if is_systemds else unseen(text, AS_ROOT)
    strangers = sorted(name for name in names if name.partition(" ")[0] not in OURS)
    if not strangers:
        return good(f"{port} ({door}) is held by {', '.join(sorted(names))}")
    fix = f"stop that process, or give the door another address: doors.{door} in tsd.toml"
    return wrong(f"{port} ({door}) is taken by {', '.join(strangers)}", fix)


def listening(machine: Machine, port: int) -> Iterator[Holder]:
    """Who holds a TCP port, at whichever address."""
    for name in ("tcp", "tcp6"):
        for line in machine.text(f"/proc/net/{name}").splitlines()[1:]:
            words = line.split()
            is_listening = len(words) > 9 and words[3] == TCP_LISTENS
            if is_listening and int(words[1].rpartition(":")[2], 16) == port:
                yield Holder(uid=int(words[7]), inode=words[9])


def _processes(machine: Machine, inode: str) -> Iterator[str]:
    """`NAME (PID)` of the processes that hold a socket, as far as the caller may see."""
    for folder in machine.path("/proc").glob("[0-9]*/fd"):
        with suppress(OSError):
            if any(str(link.readlink()) == f"socket:[{inode}]" for link in folder.iterdir()):
                pid = folder.parent.name
                yield f"{machine.text(f'/proc/{pid}/comm').strip()} ({pid})"
