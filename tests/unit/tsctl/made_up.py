"""A machine that is made up: its files lie in a folder, its programs and its daemon are tables."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tsctl.failure import Failure, Json, Status
from tsctl.machine import SERVICE, SYSTEM_SOCKET, Account, Machine, Output
from tsctl.version import installed_version

ALICE = Account("alice", 1001, frozenset({1001, 995}))
PASSWD = "root:x:0:0::/root:/bin/sh\ntsd:x:990:990::/:/usr/sbin/nologin\nalice:x:1001:1001::/:/a\n"
GROUP = "root:x:0:\ntsd:x:990:\ntsd-admin:x:995:alice\nvideo:x:44:tsd\nalice:x:1001:\n"
SERVICE_UNIT = {
    "Id": SERVICE,
    "LoadState": "loaded",
    "ActiveState": "active",
    "SubState": "running",
    "UnitFileState": "enabled",
    "NRestarts": "0",
    "Result": "success",
    "ExecMainStatus": "0",
    "MainPID": "4711",
    "User": "tsd",
    "NeedDaemonReload": "no",
    "FragmentPath": "/usr/lib/systemd/system/tsd.service",
    "DropInPaths": "",
    "LimitNOFILE": "65536",
    "LimitMEMLOCK": "infinity",
    "Type": "notify",
    "Restart": "always",
    "StartLimitIntervalUSec": "0",
    "KillMode": "mixed",
    "WatchdogUSec": "10s",
    "NoNewPrivileges": "yes",
    "ProtectSystem": "strict",
    "CapabilityBoundingSet": "",
    "SystemCallFilter": "_llseek _newselect accept",
}
STATUS: Json = {
    "version": installed_version(),
    "pid": 4711,
    "state": "ready",
    "uptime_s": 75.0,
    "runtime": {"python": "/opt/torch/bin/python", "torch": "2.13.0", "state": "ready"},
    "doors": [
        {"name": "http", "address": "127.0.0.1:8080"},
        {"name": "control", "address": SYSTEM_SOCKET},
    ],
    "models": [],
    "state_dir": "/var/lib/tsd",
}
RUNTIME: Json = {
    "name": "cuda",
    "python": "/opt/torch/bin/python",
    "versions": {"python": "3.11.2", "torch": "2.13.0"},
    "cuda": "13.0",
    "cuda_trouble": "",
    "state": "ready",
    "problem": "",
}
CONFIG = 'state_dir = "/var/lib/tsd"\n[doors]\nhttp = "127.0.0.1:8080"\nmanagement = "none"\n'


@dataclass
class MadeUp:
    """What there is; a test changes it, and then has it checked."""

    root: Path
    service: dict[str, str] = field(default_factory=lambda: dict(SERVICE_UNIT))
    sockets: dict[str, dict[str, str]] = field(
        default_factory=lambda: {
            name: {"ActiveState": "active", "UnitFileState": "enabled"}
            for name in ("http", "grpc", "metrics", "control")
        }
    )
    status: Json | Failure = field(default_factory=lambda: dict(STATUS))
    runtimes: list[Json] = field(default_factory=lambda: [dict(RUNTIME)])
    programs: dict[str, Output] = field(
        default_factory=lambda: {
            "tsd": Output(CONFIG),
            "timedatectl": Output("NTPSynchronized=yes\nCanNTP=yes\n"),
        }
    )
    refused: str = ""
    run: list[tuple[str, ...]] = field(default_factory=list)
    asked: list[str] = field(default_factory=list)

    def file(self, name: str, text: str = "", mode: int = 0o644) -> Path:
        path = self.root / name.lstrip("/")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        path.chmod(mode)
        return path

    def folder(self, name: str) -> Path:
        path = self.root / name.lstrip("/")
        path.mkdir(parents=True, exist_ok=True)
        return path

    def without_systemd(self) -> None:
        (self.root / "run/systemd/system").rmdir()

    def machine(self, **others: Any) -> Machine:
        given: dict[str, Any] = {
            "socket": SYSTEM_SOCKET,
            "environment": {"PATH": "/usr/bin"},
            "caller": ALICE,
            "execute": self._execute,
            "fetch": self._fetch,
            "root": self.root,
            "now": 2e9,
            "built_at": 1.7e9,
        }
        return Machine(**given | others)

    def _execute(self, words: Sequence[str]) -> Output:
        self.run.append(tuple(words))
        if words[0] == "systemctl" and "show" in words:
            return Output(self._shown())
        name = "tsd" if "tsd" in words else words[0]
        return self.programs.get(name, Output(problem="No such file or directory"))

    def _shown(self) -> str:
        units = [self.service] if self.service else []
        for name, properties in self.sockets.items():
            units.append({"Id": f"tsd-{name}.socket", "LoadState": "loaded", **properties})
        return "\n\n".join("\n".join(f"{k}={v}" for k, v in unit.items()) for unit in units)

    def _fetch(self, path: str) -> Json:
        self.asked.append(path)
        if isinstance(self.status, Failure):
            raise self.status
        if path == "/tsd/status":
            return self.status
        if path == "/tsd/runtimes" != self.refused:
            return {"runtimes": self.runtimes}
        raise Failure(Status.NOT_FOUND, f"no {path}")


def healthy(root: Path) -> MadeUp:
    """A machine on which nothing is wrong; the files are the test's own, so the daemon is, too."""
    made_up = MadeUp(root)
    made_up.folder("/run/systemd/system")
    mine = f"tsd:x:{os.getuid()}:990::/:/usr/sbin/nologin\n"
    made_up.file("/etc/passwd", PASSWD.replace("tsd:x:990:990::/:/usr/sbin/nologin\n", mine))
    made_up.file("/etc/group", GROUP)
    made_up.file("/proc/meminfo", "MemTotal: 8000000 kB\nMemAvailable: 4000000 kB\n")
    made_up.folder("/var/lib/tsd").chmod(0o755)
    return made_up
