"""The control groups in which a booted machine's processes are kept.

A machine's systemd needs a group of its own in the v2 hierarchy; where the host still mounts
systemd's v1 hierarchy, in that one too."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path


def can_be_made() -> bool:
    """Whether a v2 hierarchy is there, and ours to make groups in."""
    top = next(_mounted("cgroup2"), None)
    return top is not None and os.access(top, os.W_OK) and not _is_read_only(top)


def make(name: str) -> list[Path]:
    """A machine's groups, the one in the v2 hierarchy first."""
    groups = [top / name for top in (*_mounted("cgroup2"), *_mounted("cgroup", "name=systemd"))]
    for group in groups:
        group.mkdir(exist_ok=True)
    return groups


def remove(name: str) -> None:
    """The groups of a machine that has ended; one that still has processes stays."""
    for top in (*_mounted("cgroup2"), *_mounted("cgroup", "name=systemd")):
        folders = [folder for folder, _, _ in os.walk(top / name, topdown=False)]
        for folder in folders:
            with contextlib.suppress(OSError):
                Path(folder).rmdir()


def _mounted(kind: str, option: str = "") -> Iterator[Path]:
    """The mount points of a kind of file system, with an option of its own."""
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        before, _, after = line.partition(" - ")
        has_kind, _, options = after.split(" ", 2)
        if has_kind == kind and (not option or option in options.split(",")):
            yield Path(before.split(" ")[4])
            return


def _is_read_only(folder: Path) -> bool:
    return bool(os.statvfs(folder).f_flag & os.ST_RDONLY)
