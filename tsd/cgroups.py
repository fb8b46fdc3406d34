"""Control groups below the daemon's own, where systemd has handed that one over (`Delegate=`).

    tsd.service/
      daemon/                the daemon, the fork servers, what installs
      models/                the models' share of the processors
        NAME@VERSION/        limits of the model
          worker-N/          one process, and all that its handler started

A group's limits hold for whoever is in it; to kill it ends them all, however they forked. Where
nothing is handed over, nothing is done. Which limits there are is said in settings.py."""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import Callable
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
    """What all workers of one model may use together, the weight aside; 0 is no limit."""

    memory_bytes: int = 0
    pids: int = 0
    # Of the processor, when there is not enough: of all models together; the daemon has 100.
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
    """Nothing happens without a `group`, or before `take_over`.

    `on_left` is told when a worker is gone: then is the time to `sweep`."""

    def __init__(
        self, group: Path | None, limits: Limits, on_left: Callable[[], None] = lambda: None
    ) -> None:
        self._group = group
        self._limits = limits
        self.left = on_left
        self._controllers: set[str] = set()
        # The groups of workers and their processes, until they are empty and removed. None: it is
        # being forked; 0: there was none.
        self._workers: dict[Path, int | None] = {}
        self._has_failed = False

    def take_over(self) -> None:
        """Move this process into a group of its own: one that has others below it may have no
        processes."""
        if self._group is None:
            return
        try:
            own = self._group / "daemon"
            own.mkdir(exist_ok=True)
            _write(own / "cgroup.procs", str(os.getpid()))
            self._models.mkdir(exist_ok=True)
            self._controllers = self._enable(self._group, self._models)
        except OSError as error:
            self._group = None
            self.failed(str(error))
        self._tell_missing()

    def configure(self, limits: Limits) -> None:
        """From now on these hold, for running workers, too."""
        if limits != self._limits:
            self._limits = limits
            self._tell_missing()
            models = {folder.parent for folder in self._workers}
            # What is used beyond a new limit the kernel takes back before it goes on.
            asyncio.get_running_loop().run_in_executor(None, self._limit_all, models)

    def prepare(self, worker: str) -> str:
        """The group for a new process, where its model's limits hold; empty: it gets none.

        It goes there by itself. `worker`: NAME@VERSION/worker-N. `forked` is to follow."""
        if self._group is None:
            return ""
        folder = self._models / worker
        try:
            folder.parent.mkdir(exist_ok=True)
            self._limit(folder.parent)
            folder.mkdir(exist_ok=True)
            if folder in self._workers:
                # What the one before it left behind goes before the new one comes.
                _write(folder / "cgroup.kill", "1")
        except OSError as error:
            self.failed(str(error))
            return ""
        self._workers[folder] = None
        return str(folder)

    def forked(self, worker: str, pid: int) -> None:
        """The process is there, or none is to come: 0."""
        if self._group is not None and self._models / worker in self._workers:
            self._workers[self._models / worker] = pid

    def failed(self, why: str) -> None:
        """Told once: it will be the same for all workers."""
        if not self._has_failed:
            log.warning("workers get no groups of their own: %s", why, code="cgroups_failed")
        self._has_failed = True

    def sweep(self) -> bool:
        """End what is left of workers that are gone, and remove their groups once they are empty.

        Whether there were any; then it is to be called again: the kernel takes its time."""
        has_more = False
        for folder, pid in list(self._workers.items()):
            if pid is None:
                continue
            with contextlib.suppress(OSError):
                left = (folder / "cgroup.procs").read_text().split()
                if str(pid) in left:
                    continue
                has_more = True
                if left:
                    name = folder.relative_to(self._models)
                    log.info("%s: %d left behind are ended", name, len(left), code="strays")
                    _write(folder / "cgroup.kill", "1")
                folder.rmdir()
                del self._workers[folder]
                # The last worker of the model: else it is not empty.
                folder.parent.rmdir()
        return has_more

    @property
    def _models(self) -> Path:
        assert self._group is not None
        return self._group / "models"

    def _limit_all(self, models: set[Path]) -> None:
        for model in models:
            # One that is gone meanwhile needs no limit.
            with contextlib.suppress(OSError):
                self._limit(model)

    def _limit(self, model: Path) -> None:
        for controller, (name, text) in self._limits.files().items():
            if controller in self._controllers:
                # Weights count between neighbours: below each other all models have the same.
                _write((self._models if controller == "cpu" else model) / name, text)

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


def _write(file: Path, text: str) -> None:
    """One write: the kernel takes each as a whole."""
    descriptor = os.open(file, os.O_WRONLY | os.O_TRUNC | os.O_CLOEXEC)
    try:
        os.write(descriptor, text.encode())
    finally:
        os.close(descriptor)
