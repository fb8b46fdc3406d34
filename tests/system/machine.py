"""A throw-away Debian machine with a real systemd as PID 1: booted, talked to, gone.

Its disk is an overlay on a pristine root, kept over a reboot and deleted at the end. Its network is
a loopback of its own, so that no port can clash with the host's; `host` runs a program of the host
there. It ends with the process that booted it."""

from __future__ import annotations

import contextlib
import json
import os
import select
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from tests.system import able, cgroups
from tests.system.root import pristine

BOOT_S = 90.0
SHUTDOWN_S = 90.0
COMMAND_S = 60.0

# systemd-nspawn in groups and a mount namespace of its own: no overlay to unmount, ever.
BOOT = """
for group in $GROUPS_TO_JOIN; do echo $$ >"$group/cgroup.procs"; done
exec setpriv --pdeathsig TERM unshare --mount sh -ec '
    mount -t overlay "$0" -o "$1" "$2"
    shift 2
    exec systemd-nspawn "$@"' "$0" "$@"
"""
# A command is of the machine's cgroup, so that systemd there knows it; it ends with its caller.
ENTER = """
echo $$ >"$GROUP_TO_JOIN/cgroup.procs"
unset GROUP_TO_JOIN
exec nsenter --target="$0" --mount --uts --ipc --pid --cgroup --net -- \
    setpriv --pdeathsig KILL "$@"
"""
# Filters are off, so that a unit's own is the only one; BPF is for DeviceAllow= and IPAddressDeny=.
NSPAWN = {"SYSTEMD_NSPAWN_UNIFIED_HIERARCHY": "1", "SYSTEMD_SECCOMP": "0"}
CAPABILITIES = "CAP_BPF,CAP_PERFMON,CAP_IPC_LOCK"
ENVIRONMENT = {
    "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
    "HOME": "/root",
    "LANG": "C.UTF-8",
    "DEBIAN_FRONTEND": "noninteractive",
}

Completed = subprocess.CompletedProcess[str]


class Machine:
    """One machine. `binds` maps folders of the host to places in it, where they are read-only."""

    def __init__(self, suite: str, binds: Mapping[Path, Path] | None = None) -> None:
        self.suite = suite
        self.leader = 0
        self._binds = dict(binds or {})
        self._nspawn: subprocess.Popen[bytes] | None = None
        self._base = pristine(suite)
        _remove_leftovers()
        # Its name says whose it is, so that a later process can tell what was left behind.
        self._folder = Path(tempfile.mkdtemp(dir=able.CACHE, prefix=f"machine-{os.getpid()}-"))
        for layer in ("upper", "work", "root"):
            (self._folder / layer).mkdir()
        self._groups: list[Path] = []

    @property
    def root(self) -> Path:
        """Its file system. An absolute link in it leads astray: it is followed on the host."""
        return Path(f"/proc/{self.leader}/root")

    @property
    def console(self) -> str:
        """What the last boot printed."""
        return (self._folder / "console").read_text(errors="replace")

    def up(self) -> None:
        """Boot, and return when systemd says that it is done."""
        self._groups = cgroups.make(self._folder.name)
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as notices:
            address = self._folder / "notices"
            address.unlink(missing_ok=True)
            notices.bind(str(address))
            self._spawn(address)
            self._wait_until_booted(notices)
        state = self.run("systemctl", "is-system-running", "--wait", check=False).stdout.strip()
        if state != "running":
            failed = self.run("systemctl", "--failed", "--no-pager", check=False).stdout
            raise AssertionError(f"the machine is {state or 'gone'}\n{failed}\n{self.console}")

    def down(self, *, hard: bool = False) -> None:
        """Shut down; hard is like pulling the plug. The disk stays: `up` boots it again."""
        if self._nspawn is None:
            return
        if hard and self.leader:
            os.kill(self.leader, signal.SIGKILL)
        else:
            # nspawn makes an orderly shutdown of it.
            self._nspawn.terminate()
        try:
            self._nspawn.wait(SHUTDOWN_S)
        except subprocess.TimeoutExpired:
            self._nspawn.kill()
            self._nspawn.wait()
            raise AssertionError(f"no shutdown in {SHUTDOWN_S} s\n{self.console}") from None
        finally:
            self._nspawn, self.leader = None, 0
            cgroups.remove(self._folder.name)

    def reboot(self) -> None:
        """Down in order, and up again."""
        self.down()
        self.up()

    def delete(self) -> None:
        """End it, and its disk with it."""
        self.down(hard=True)
        shutil.rmtree(self._folder)

    def run(
        self,
        *command: str | Path,
        said: str | None = None,
        check: bool = True,
        timeout_s: float = COMMAND_S,
    ) -> Completed:
        """Run a program in it, as root; what fails is told with the journal's last lines."""
        done = _run(self._entered(*command), said, timeout_s, self._environment)
        if check and done.returncode != 0:
            raise AssertionError(f"{_failure(done, command)}\n{self.journal_text()}")
        return done

    def start(self, *command: str | Path, **options: Any) -> subprocess.Popen[str]:
        """Start a program in it, as root."""
        arguments = self._entered(*command)
        return subprocess.Popen(arguments, env=self._environment, text=True, **options)

    def host(
        self,
        *command: str | Path,
        said: str | None = None,
        check: bool = True,
        timeout_s: float = COMMAND_S,
    ) -> Completed:
        """Run a program of the host, with the host's files, in the machine's network."""
        done = _run(self._in_network(*command), said, timeout_s, None)
        if check and done.returncode != 0:
            raise AssertionError(_failure(done, command))
        return done

    def start_host(self, *command: str | Path, **options: Any) -> subprocess.Popen[str]:
        """Start one."""
        return subprocess.Popen(self._in_network(*command), text=True, **options)

    def copy_in(self, source: Path, target: str) -> None:
        """Copy a file or a folder to a path in it."""
        place = self.root / target.lstrip("/")
        place.parent.mkdir(parents=True, exist_ok=True)
        if source.is_dir():
            shutil.copytree(source, place, symlinks=True, dirs_exist_ok=True)
        else:
            shutil.copy(source, place)

    def write(self, target: str, text: str, mode: int = 0o644) -> None:
        """Write a file in it."""
        place = self.root / target.lstrip("/")
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_text(text)
        place.chmod(mode)

    def wait_for(self, condition: str, timeout_s: float = COMMAND_S) -> None:
        """Return when a shell command succeeds; it is asked again and again by one shell in it."""
        try:
            self.run("sh", "-c", f"until {condition}; do sleep 0.02; done", timeout_s=timeout_s)
        except subprocess.TimeoutExpired:
            failure = f"not so in {timeout_s} s: {condition}\n{self.journal_text()}"
            raise AssertionError(failure) from None

    def show(self, unit: str, name: str) -> str:
        """A property of a unit."""
        return self.run("systemctl", "show", "--value", f"--property={name}", unit).stdout.strip()

    def processes(self, unit: str) -> list[int]:
        """The processes of a system unit and of the groups below it, by the host's numbers."""
        group = self._groups[0] / "payload/system.slice" / unit
        lists = [path.read_text() for path in group.rglob("cgroup.procs")]
        return [int(pid) for listed in lists for pid in listed.split()]

    def main_process(self, unit: str) -> int:
        """The main process of a system unit, by the host's number."""
        inner = self.show(unit, "MainPID")
        for pid in self.processes(unit):
            lines = Path("/proc", str(pid), "status").read_text().splitlines()
            if any(line.startswith("NSpid") and line.split()[-1] == inner for line in lines):
                return pid
        raise AssertionError(f"{unit} does not run")

    def journal(self, unit: str = "", **fields: str) -> list[dict[str, Any]]:
        """The journal's records with these fields, oldest first."""
        matches = [f"{name}={value}" for name, value in fields.items()]
        of_unit = [f"--unit={unit}"] if unit else []
        listed = self.run("journalctl", "-q", "-a", "-ojson", *of_unit, *matches, check=False)
        return [json.loads(line) for line in listed.stdout.splitlines()]

    def journal_text(self, lines: int = 20) -> str:
        """The last lines of the journal, for people."""
        shown = ("journalctl", "--no-pager", "-q", f"-n{lines}", "-oshort-iso-precise")
        return self.run(*shown, check=False).stdout

    def _spawn(self, address: Path) -> None:
        layers = f"lowerdir={self._base},upperdir={self._folder}/upper,workdir={self._folder}/work"
        root = self._folder / "root"
        binds = [f"--bind-ro={source}:{target}" for source, target in self._binds.items()]
        settings = {
            "GROUPS_TO_JOIN": " ".join(map(str, self._groups)),
            "NOTIFY_SOCKET": str(address),
        }
        with (self._folder / "console").open("wb") as console:
            self._nspawn = subprocess.Popen(
                [
                    *("sh", "-ec", BOOT, "tsd-system", layers, str(root)),
                    *("--boot", f"--directory={root}", "--machine=tsd-system", *binds),
                    *("--private-network", "--register=no", "--keep-unit", "--notify-ready=yes"),
                    *("--console=pipe", "--link-journal=no", "--resolv-conf=off"),
                    *("--timezone=off", f"--capability={CAPABILITIES}", "--quiet"),
                ],
                stdin=subprocess.DEVNULL,
                stdout=console,
                stderr=console,
                env=os.environ | NSPAWN | settings,
                start_new_session=True,
            )

    def _wait_until_booted(self, notices: socket.socket) -> None:
        """nspawn tells its leader's number, and that the leader is done with booting."""
        assert self._nspawn is not None
        pidfd = os.pidfd_open(self._nspawn.pid)
        give_up_at = time.monotonic() + BOOT_S
        try:
            while True:
                left_s = max(give_up_at - time.monotonic(), 0)
                ready, _, _ = select.select([notices.fileno(), pidfd], [], [], left_s)
                assert notices.fileno() in ready, f"it did not boot:\n{self.console}"
                lines = dict(
                    line.partition("=")[::2] for line in notices.recv(4096).decode().splitlines()
                )
                self.leader = int(lines.get("X_NSPAWN_LEADER_PID", self.leader))
                if "READY" in lines:
                    return
        finally:
            os.close(pidfd)

    def _entered(self, *command: str | Path) -> list[str]:
        assert self.leader, "the machine is down"
        return ["sh", "-ec", ENTER, str(self.leader), *map(str, command)]

    def _in_network(self, *command: str | Path) -> list[str]:
        assert self.leader, "the machine is down"
        return ["nsenter", f"--target={self.leader}", "--net", "--", *map(str, command)]

    @property
    def _environment(self) -> dict[str, str]:
        return ENVIRONMENT | {"GROUP_TO_JOIN": f"{self._groups[0]}/payload/init.scope"}


@contextlib.contextmanager
def booted(suite: str, binds: Mapping[Path, Path] | None = None) -> Iterator[Machine]:
    """A fresh machine that runs; whatever happens, nothing of it is left."""
    machine = Machine(suite, binds)
    try:
        machine.up()
        yield machine
    finally:
        machine.delete()


def _run(
    command: list[str], said: str | None, timeout_s: float, environment: Mapping[str, str] | None
) -> Completed:
    """What it prints is kept; what is said to it is all that it can read."""
    return subprocess.run(
        command,
        input=said or "",
        capture_output=True,
        text=True,
        check=False,
        timeout=timeout_s,
        env=environment,
    )


def _failure(done: Completed, command: tuple[str | Path, ...]) -> str:
    printed = f"{done.stdout}\n{done.stderr}".strip()
    return f"exit status {done.returncode}: {' '.join(map(str, command))}\n{printed}"


def _remove_leftovers() -> None:
    """Disks and groups of machines whose process was killed."""
    for folder in able.CACHE.glob("machine-*-*"):
        if not Path("/proc", folder.name.split("-")[1]).exists():
            shutil.rmtree(folder, ignore_errors=True)
            cgroups.remove(folder.name)
