"""What systemd and the environment tell the daemon, and what it tells systemd.

The only place that reads the environment. What its variables mean for the settings is known to
config.py; what is asked at an inherited socket, to whoever takes it."""

from __future__ import annotations

import fcntl
import os
import socket
import stat
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import sdnotify

from tsd.errors import StartupError

FIRST_FD = 3
# What the service manager said to this process alone: a child that acted on it would do harm.
FOR_THIS_PROCESS = {
    *("NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID", "MAINPID", "MANAGERPID"),
    *("LISTEN_FDS", "LISTEN_PID", "LISTEN_FDNAMES", "JOURNAL_STREAM", "CREDENTIALS_DIRECTORY"),
}


@dataclass(frozen=True)
class Environment:
    """The variables and the ids of this process, as they were at its start."""

    variables: Mapping[str, str] = field(repr=False)
    uid: int
    pid: int

    @property
    def journal_stream(self) -> str:
        """Device and inode of the journal's end of stdout or stderr; empty without one."""
        return self.variables.get("JOURNAL_STREAM", "")

    def for_children(self) -> dict[str, str]:
        """The environment without what was said to this process alone."""
        return {k: v for k, v in self.variables.items() if k not in FOR_THIS_PROCESS}


@dataclass(frozen=True)
class Places:
    """Where the daemon keeps its sockets and its state, and looks for its settings, unless told."""

    runtime_dir: Path
    state_dir: Path
    config_file: Path


def environment() -> Environment:
    """Read once, at the start."""
    return Environment(variables=dict(os.environ), uid=os.geteuid(), pid=os.getpid())


def places(env: Environment) -> Places:
    """The service's directories, else the system's for root, else the user's own."""
    default = _system_places() if env.uid == 0 else _user_places(env)
    config_dir = _service_directory(env, "CONFIGURATION_DIRECTORY")
    return Places(
        runtime_dir=_service_directory(env, "RUNTIME_DIRECTORY") or default.runtime_dir,
        state_dir=_service_directory(env, "STATE_DIRECTORY") or default.state_dir,
        config_file=config_dir / "tsd.toml" if config_dir else default.config_file,
    )


class Notifier:
    """Tells the service manager how the daemon fares; without one, tells nobody."""

    def __init__(self, send: Callable[[str], None] | None) -> None:
        self._send = send

    def ready(self, status: str) -> None:
        """Start-up is done, or a reload is."""
        self._notify("READY=1", f"STATUS={_ascii_line(status)}")

    def status(self, text: str) -> None:
        """One line for `systemctl status`."""
        self._notify(f"STATUS={_ascii_line(text)}")

    def stopping(self) -> None:
        """The drain has begun."""
        self._notify("STOPPING=1")

    def reloading(self) -> None:
        """The settings are being read again; `ready` ends it."""
        self._notify("RELOADING=1", f"MONOTONIC_USEC={time.monotonic_ns() // 1000}")

    def watchdog(self) -> None:
        """The loop still turns."""
        self._notify("WATCHDOG=1")

    def extend_timeout(self, seconds: float) -> None:
        """Starting or stopping may take this much longer, from now."""
        self._notify(f"EXTEND_TIMEOUT_USEC={round(seconds * 1e6)}")

    def _notify(self, *lines: str) -> None:
        if self._send is not None:
            self._send("\n".join(lines))


def notifier(env: Environment) -> Notifier:
    """The way to the service manager, where it named one."""
    if not env.variables.get("NOTIFY_SOCKET"):
        return Notifier(None)
    manager = sdnotify.SystemdNotifier()
    # It swallows errors, a full socket's too; but a READY=1 is worth a short wait.
    if manager.socket is not None:
        manager.socket.settimeout(0.1)
    return Notifier(manager.notify)


def watchdog_interval_s(env: Environment) -> float | None:
    """How often to say that the loop turns: twice as often as asked; None if nobody asks."""
    usec = env.variables.get("WATCHDOG_USEC", "")
    pid = env.variables.get("WATCHDOG_PID", str(env.pid))
    if not usec.isdecimal() or int(usec) == 0 or pid != str(env.pid):
        return None
    return int(usec) / 2e6


def inherited_sockets(env: Environment) -> dict[str, list[socket.socket]]:
    """The listening sockets that the service manager holds for this process, by name."""
    found: dict[str, list[socket.socket]] = {}
    for descriptor, name in inherited_descriptors(env):
        found.setdefault(name, []).append(_listening_socket(descriptor, name))
    return found


def inherited_descriptors(env: Environment) -> list[tuple[int, str]]:
    """Numbers and names of the descriptors that were passed to this process and no other."""
    count = env.variables.get("LISTEN_FDS", "")
    if env.variables.get("LISTEN_PID") != str(env.pid) or not count.isdecimal():
        return []
    names = env.variables.get("LISTEN_FDNAMES", "").split(":")
    unnamed = ["unknown"] * max(0, int(count) - len(names))
    named = [name or "unknown" for name in names] + unnamed
    return [(FIRST_FD + i, named[i]) for i in range(int(count))]


def _system_places() -> Places:
    return Places(Path("/run/tsd"), Path("/var/lib/tsd"), Path("/etc/tsd/tsd.toml"))


def _user_places(env: Environment) -> Places:
    """The XDG directories; without one for sockets, a folder in /tmp that is checked when made."""
    home = Path(env.variables.get("HOME") or "/")
    run = _absolute(env, "XDG_RUNTIME_DIR")
    return Places(
        runtime_dir=run / "tsd" if run else Path(f"/tmp/tsd-{env.uid}"),
        state_dir=(_absolute(env, "XDG_STATE_HOME") or home / ".local/state") / "tsd",
        config_file=(_absolute(env, "XDG_CONFIG_HOME") or home / ".config") / "tsd" / "tsd.toml",
    )


def _service_directory(env: Environment, name: str) -> Path | None:
    """The first of the directories that the unit names; systemd joins them with colons."""
    first = env.variables.get(name, "").partition(":")[0]
    return Path(first) if first.startswith("/") else None


def _absolute(env: Environment, name: str) -> Path | None:
    """A relative path in an XDG variable is to be ignored."""
    value = env.variables.get(name, "")
    return Path(value) if value.startswith("/") else None


def _ascii_line(text: str) -> str:
    """One line that sdnotify can send; a line break would start another assignment."""
    return "".join(c if " " <= c <= "~" else "?" for c in text)


def _listening_socket(descriptor: int, name: str) -> socket.socket:
    try:
        if stat.S_ISSOCK(os.fstat(descriptor).st_mode):
            fcntl.fcntl(descriptor, fcntl.F_SETFD, fcntl.FD_CLOEXEC)
            inherited = socket.socket(fileno=descriptor)
            if inherited.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
                return inherited
            inherited.detach()
        why = "it is not a listening stream socket"
    except OSError as error:
        why = f"it cannot be used: {error.strerror}"
    raise StartupError(
        f"descriptor {descriptor}, passed as {name!r}, is not for tsd",
        why=why,
        fix="check ListenStream= and FileDescriptorName= of the socket units",
    )
