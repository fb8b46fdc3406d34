"""Control groups below the daemon's own, where systemd has handed that one over (`Delegate=`).

    tsd.service/
      daemon/                the daemon, the fork servers, what installs
      models/NAME@VERSION/   limits of the model
        worker-N/            one process, and all that its handler started

A group's limits hold for whoever is in it; to kill it ends them all, however they forked. Where
nothing is handed over, nothing is done. Which limits there are is said in settings.py."""

from __future__ import annotations

import contextlib
import os
from dataclasses import dataclass
from pathlib import Path

from tsd.log import get_logger
from tsd.settings import ServingSettings

ROOT = Path("/sys/fs/cgroup")
# What systemd puts on a group that is no longer its own to change.
HANDED_OVER = "user.delegate"

log = get_logger()


@dataclass(frozen=True, slots=True)
class Limits:
    """What all workers of one model may use together; 0 is no limit."""

    memory_bytes: int = 0
    pids: int = 0
    # Of the processor, when there is not enough: others have 100.
    cpu_weight: int = 0

    def files(self) -> dict[str, tuple[str, str]]:
        """By controller: the file of a group that says so, and what to write to it."""
        return {
            "memory": ("memory.max", str(self.memory_bytes or "max")),
            "pids": ("pids.max", str(self.pids or "max")),
            "cpu": ("cpu.weight", str(self.cpu_weight or 100)),
        }

    def controllers(self) -> set[str]:
        """Those that a limit needs."""
        wanted = {"memory": self.memory_bytes, "pids": self.pids, "cpu": self.cpu_weight}
        return {controller for controller, limit in wanted.items() if limit}


def limits_of(serving: ServingSettings) -> Limits:
    """Those that the settings name."""
    return Limits(serving.model_memory_bytes, serving.model_pids, serving.model_cpu_weight)


def handed_over(membership: Path = Path("/proc/self/cgroup"), root: Path = ROOT) -> Path | None:
    """This process's own group, if the service manager has handed it over."""
    try:
        lines = membership.read_text().splitlines()
        paths = [line.removeprefix("0::/") for line in lines if line.startswith("0::/")]
        group = root / paths[0]
        return group if os.getxattr(group, HANDED_OVER) == b"1" else None
    except (OSError, IndexError):
        return None


class Cgroups:
    """Nothing happens without a `group`, or before `take_over`."""

    def __init__(self, group: Path | None, limits: Limits) -> None:
        self._group = group
        self._limits = limits
        self._controllers: set[str] = set()
        # The groups of workers, by process: until they are empty and removed.
        self._workers: dict[int, Path] = {}
        self._has_failed = False

    def take_over(self) -> None:
        """Move this process into a group of its own: one that has others below it may have no
        processes."""
        if self._group is None:
            return
        try:
            _join(self._group / "daemon", os.getpid())
            self._models.mkdir(exist_ok=True)
            self._controllers = self._enable(self._group, self._models)
        except OSError as error:
            self._group = None
            self._tell(error)
        self._tell_missing()

    def configure(self, limits: Limits) -> None:
        """From now on these hold, for running workers, too."""
        if limits != self._limits:
            self._limits = limits
            self._tell_missing()
            for model in {folder.parent for folder in self._workers.values()}:
                self._limit(model)

    def place(self, worker: str, pid: int) -> None:
        """Put a new process where its model's limits hold; `worker`: NAME@VERSION/worker-N."""
        if self._group is None:
            return
        folder = self._models / worker
        try:
            folder.parent.mkdir(exist_ok=True)
            self._limit(folder.parent)
            if folder in self._workers.values():
                # What the one before it left behind goes before the new one comes.
                _write(folder / "cgroup.kill", "1")
            _join(folder, pid)
        except OSError as error:
            self._tell(error)
            return
        self._workers = {p: f for p, f in self._workers.items() if f != folder} | {pid: folder}

    def sweep(self) -> None:
        """End what is left of workers that are gone, and remove their groups once they are empty.

        To be called again and again: the kernel takes its time."""
        for pid, folder in list(self._workers.items()):
            with contextlib.suppress(OSError):
                left = (folder / "cgroup.procs").read_text().split()
                if str(pid) in left:
                    continue
                if left:
                    name = folder.relative_to(self._models)
                    log.info("%s: %d left behind are ended", name, len(left), code="strays")
                    _write(folder / "cgroup.kill", "1")
                folder.rmdir()
                del self._workers[pid]
                # The last worker of the model: else it is not empty.
                folder.parent.rmdir()

    @property
    def _models(self) -> Path:
        assert self._group is not None
        return self._group / "models"

    def _limit(self, model: Path) -> None:
        for controller, (name, text) in self._limits.files().items():
            if controller in self._controllers:
                _write(model / name, text)

    def _enable(self, *groups: Path) -> set[str]:
        """Let limits be set below these groups; the controllers of which that could be done."""
        given = set((groups[0] / "cgroup.controllers").read_text().split())
        usable = set()
        for name in given & set(Limits().files()):
            with contextlib.suppress(OSError):
                for group in groups:
                    _write(group / "cgroup.subtree_control", f"+{name}")
                usable.add(name)
        return usable

    def _tell_missing(self) -> None:
        missing = self._limits.controllers() - self._controllers
        if missing:
            text = "limits of models do not hold: no %s controller is handed over (Delegate=)"
            log.warning(text, ", ".join(sorted(missing)), code="limits_missing")

    def _tell(self, error: OSError) -> None:
        """Once: it will be the same for all workers."""
        if not self._has_failed:
            log.warning("workers get no groups of their own: %s", error, code="cgroups_failed")
        self._has_failed = True


def _join(folder: Path, pid: int) -> None:
    folder.mkdir(exist_ok=True)
    _write(folder / "cgroup.procs", str(pid))


def _write(file: Path, text: str) -> None:
    """One write: the kernel takes each as a whole."""
    descriptor = os.open(file, os.O_WRONLY | os.O_TRUNC | os.O_CLOEXEC)
    try:
        os.write(descriptor, text.encode())
    finally:
        os.close(descriptor)
