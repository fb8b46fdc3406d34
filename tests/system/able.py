"""Whether this machine can boot another one: `python -m tests.system.able` says why not."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from tests.system import cgroups

CACHE = Path("/var/tmp/tsd-system")
"""Where pristine roots are kept, and the disks of running machines: root's alone."""


def reasons() -> Iterator[str]:
    """Everything that is missing, in words."""
    if os.geteuid() != 0:
        yield "it takes root"
        return
    if shutil.which("apt-get") is None:
        yield "it takes apt, to install what boots a machine and to know a Debian mirror"
    if not cgroups.can_be_made():
        yield "no cgroup v2 hierarchy is mounted where groups can be made"
    if not _can_mount_overlays():
        yield f"no overlay can be mounted below {CACHE}"


def _can_mount_overlays() -> bool:
    """Try it, in a mount namespace that ends with the try."""
    CACHE.mkdir(mode=0o700, parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=CACHE, prefix="able-") as name:
        for layer in ("lower", "upper", "work", "root"):
            Path(name, layer).mkdir()
        layers = f"lowerdir={name}/lower,upperdir={name}/upper,workdir={name}/work"
        mount = ("mount", "-t", "overlay", "able", "-o", layers, f"{name}/root")
        tried = subprocess.run(["unshare", "--mount", *mount], capture_output=True, check=False)
        return tried.returncode == 0


def main() -> int:
    """Exit 0 when system tests can run here; else say why not."""
    missing = list(reasons())
    for reason in missing:
        print(f"system tests cannot run here: {reason}", file=sys.stderr)
    return 1 if missing else 0


if __name__ == "__main__":
    sys.exit(main())
