"""The machine as `tsctl doctor` and `tsctl bugreport` see it: files, programs and the daemon.

All of it is only looked at, and whatever is asked is bounded in time and in size. What a program
or a file says can be made up for a test: a machine is what it is given here."""

from __future__ import annotations

import enum
import os
import subprocess
import sys
import tempfile
import time
import tomllib
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import IO

from tsctl.client import NDJSON, Client, Request
from tsctl.failure import Failure, Json, Status

SYSTEM_SOCKET = "/run/tsd/control.sock"
SERVICE = "tsd.service"
SOCKETS = ("http", "grpc", "metrics", "control", "management")
ANSWER_S = 3.0
# Left to whatever is asked when nothing is left of the whole.
LEAST_S = 0.1
FILE_BYTES = 1024 * 1024
OUTPUT_BYTES = 2 * 1024 * 1024
ASLEEP = "it does not run; the first connection starts it"
# What systemd tells the service: with it `tsd` finds the service's places, whoever runs it.
SERVICE_PLACES = {
    "STATE_DIRECTORY": ("/var/lib", "StateDirectory"),
    "RUNTIME_DIRECTORY": ("/run", "RuntimeDirectory"),
    "CONFIGURATION_DIRECTORY": ("/etc", "ConfigurationDirectory"),
}


class Scope(enum.Enum):
    """Whose daemon it is: the machine's, a user's, or one that was started by hand."""

    SYSTEM = "system"
    USER = "user"
    OWN = "own"


@dataclass(frozen=True)
class Output:
    """What a program said; `problem` is empty if it ended well."""

    text: str = ""
    errors: str = ""
    problem: str = ""


@dataclass(frozen=True)
class Account:
    """A user, with all groups it is in."""

    name: str
    uid: int
    gids: frozenset[int]


@dataclass(frozen=True)
class Machine:
    """What can be looked at; `root` is where its files are found."""

    socket: str
    environment: Mapping[str, str]
    caller: Account
    execute: Callable[[Sequence[str]], Output]
    fetch: Callable[[str], Json]
    tsd: tuple[str, ...] = ("tsd",)
    root: Path = Path("/")
    now: float = 0.0
    built_at: float = 0.0
    space: Callable[[Path], os.statvfs_result] = os.statvfs

    def path(self, name: object) -> Path:
        """Where a file of the machine is found."""
        return self.root / str(name).lstrip("/")

    def content(self, name: object, most: int = FILE_BYTES) -> bytes:
        """The beginning of a file. Handlers may have put anything there: it does not wait."""
        with open(self.path(name), "rb", opener=_without_waiting) as file:
            return file.read(most) or b""

    def text(self, name: object) -> str:
        """The same as text; empty if it is not there or not for the caller."""
        with suppress(OSError):
            return self.content(name).decode("utf-8", "replace")
        return ""

    @property
    def scope(self) -> Scope:
        if self.socket == SYSTEM_SOCKET:
            return Scope.SYSTEM
        folder = self.environment.get("XDG_RUNTIME_DIR")
        is_users = folder and self.socket == f"{folder}/tsd/control.sock"
        return Scope.USER if is_users else Scope.OWN

    @property
    def without_systemd(self) -> str:
        """Why there is no service manager to ask; empty if there is one."""
        if self.scope is Scope.OWN:
            return f"the daemon at {self.socket} is not systemd's"
        return "" if self.path("/run/systemd/system").is_dir() else "systemd does not run here"

    def systemctl(self, *words: str) -> Output:
        """What the service manager that has the daemon's units says."""
        if self.without_systemd:
            return Output(problem=self.without_systemd)
        user = ("--user",) if self.scope is Scope.USER else ()
        return self.execute(("systemctl", *user, "--no-pager", *words))

    @property
    def systemctl_words(self) -> str:
        """How the operator would begin a command for that service manager."""
        return "systemctl --user" if self.scope is Scope.USER else "sudo systemctl"

    @cached_property
    def units(self) -> Mapping[str, Mapping[str, str]]:
        """The properties of those of tsd's units that are loaded."""
        names = [SERVICE, *(f"tsd-{name}.socket" for name in SOCKETS)]
        blocks = self.systemctl("show", *names).text.split("\n\n")
        found = [dict(line.split("=", 1) for line in b.splitlines() if "=" in line) for b in blocks]
        return {unit["Id"]: unit for unit in found if unit.get("LoadState") == "loaded"}

    @property
    def unit(self) -> Mapping[str, str]:
        """The properties of the service; none where systemd does not know it."""
        return self.units.get(SERVICE, {})

    @cached_property
    def status(self) -> Json | Failure:
        """What the daemon says of itself, or why it says nothing.

        One that is away, with its sockets open, is not asked: that would start it."""
        state = self.unit.get("ActiveState")
        if not any(unit.get("ActiveState") == "active" for unit in self.units.values()):
            return self.ask("/tsd/status")
        if state == "inactive":
            return Failure(Status.UNREACHABLE, "the daemon is asleep", ASLEEP)
        if state == "failed":
            return Failure(Status.UNREACHABLE, "the daemon does not run", "its last start failed")
        return self.ask("/tsd/status")

    def ask(self, path: str) -> Json | Failure:
        """The daemon's answer, or the reason why there is none."""
        try:
            return self.fetch(path)
        except Failure as failure:
            return failure

    def ask_if_awake(self, path: str) -> Json | Failure:
        """The same of a daemon that runs."""
        status = self.status
        return status if isinstance(status, Failure) else self.ask(path)

    def told(self, name: str) -> str:
        """One word of the daemon's status; empty if it says nothing."""
        status = self.status
        return "" if isinstance(status, Failure) else str(status.get(name) or "")

    @cached_property
    def config(self) -> Output:
        """The settings as tsd reads them, in TOML, or what it complains of."""
        if self.scope is not Scope.SYSTEM:
            return self.execute((*self.tsd, "--print-config"))
        search = f"PATH={self.environment.get('PATH', '/usr/bin:/bin')}"
        places = [
            f"{variable}={parent}/{self.unit.get(directive) or 'tsd'}"
            for variable, (parent, directive) in SERVICE_PLACES.items()
        ]
        return self.execute(("env", "-i", search, *places, *self.tsd, "--print-config"))

    @cached_property
    def settings(self) -> Json:
        """The same, read; empty if they cannot be."""
        with suppress(tomllib.TOMLDecodeError):
            return {} if self.config.problem else tomllib.loads(self.config.text)
        return {}

    @property
    def state_dir(self) -> str:
        return self.told("state_dir") or str(self.settings.get("state_dir") or "/var/lib/tsd")

    @property
    def pid(self) -> str:
        """The daemon's process; empty if none is known."""
        said = self.told("pid") or self.unit.get("MainPID", "")
        return said if said.isdecimal() and int(said) else ""

    @property
    def service_account(self) -> Account | None:
        """Who the daemon is; None if there is no such user."""
        if self.scope is not Scope.SYSTEM:
            return self.caller
        return self.account(self.unit.get("User") or "tsd")

    def account(self, name: str) -> Account | None:
        users = {words[0]: words for words in self._rows("/etc/passwd", 4)}
        if name not in users:
            return None
        groups = self._rows("/etc/group", 4)
        joined = {int(gid) for _, _, gid, members, *_ in groups if name in members.split(",")}
        return Account(name, int(users[name][2]), frozenset({int(users[name][3]), *joined}))

    def group(self, name: str) -> int | None:
        """The number of a group."""
        return next((int(w[2]) for w in self._rows("/etc/group", 3) if w[0] == name), None)

    def _rows(self, name: str, least: int) -> list[list[str]]:
        rows = [line.split(":") for line in self.text(name).splitlines()]
        return [words for words in rows if len(words) >= least and words[2].isdecimal()]


def this_machine(client: Client, budget_s: float) -> Machine:
    """The real one; all that is asked of it together takes about as long as the budget."""
    ends_at = time.monotonic() + budget_s

    def left_s() -> float:
        return max(LEAST_S, min(ANSWER_S, ends_at - time.monotonic()))

    def fetch(path: str) -> Json:
        with client.ask(Request("GET", path, timeout_s=left_s())) as answer:
            is_many = answer.content_type == NDJSON
            found: Json = {"records": list(answer.records())} if is_many else answer.json()
            return found

    return Machine(
        socket=client.path,
        environment=os.environ,
        caller=this_caller(),
        execute=lambda words: execute(words, left_s()),
        fetch=fetch,
        tsd=tsd_command(Path(sys.argv[0]).resolve().parent),
        now=time.time(),
        built_at=Path(__file__).stat().st_mtime,
    )


def _without_waiting(path: str, flags: int) -> int:
    """A pipe that nobody writes to is as good as empty."""
    return os.open(path, flags | os.O_NONBLOCK)


def this_caller() -> Account:
    import pwd

    uid = os.geteuid()
    try:
        name = pwd.getpwuid(uid).pw_name
    except KeyError:
        name = str(uid)
    return Account(name, uid, frozenset({os.getegid(), *os.getgroups()}))


def tsd_command(folder: Path) -> tuple[str, ...]:
    """The program that is installed beside this one, else the module."""
    beside = folder / "tsd"
    return (str(beside),) if beside.is_file() else (sys.executable, "-m", "tsd")


def execute(words: Sequence[str], timeout_s: float) -> Output:
    """Run a program that asks nothing of the user, and take the end of what it says.

    It writes to files, not pipes: whoever else holds those open cannot keep us waiting."""
    quiet = {"LC_ALL": "C.UTF-8", "SYSTEMD_PAGER": "", "SYSTEMD_COLORS": "0", "TERM": "dumb"}
    with tempfile.TemporaryFile() as output, tempfile.TemporaryFile() as errors:
        try:
            done = subprocess.run(
                words,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=errors,
                env=os.environ | quiet,
                timeout=timeout_s,
                check=False,
            )
            problem = f"exit status {done.returncode}" if done.returncode else ""
        except subprocess.TimeoutExpired:
            problem = f"no answer within {timeout_s:.1f} s"
        except OSError as error:
            problem = error.strerror or str(error)
        return Output(_end_of(output), _end_of(errors), problem)


def _end_of(file: IO[bytes]) -> str:
    size = file.seek(0, os.SEEK_END)
    file.seek(max(0, size - OUTPUT_BYTES))
    return file.read().decode("utf-8", "replace")
