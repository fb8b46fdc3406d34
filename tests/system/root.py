"""The pristine Debian that test machines start from: built once, kept outside the repository.

`python -m tests.system.root [SUITE...]` builds what is not there yet. It needs nothing but a
Python, root and apt."""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from tests.system import able

SUITES = ("bookworm", "trixie")

# What the Debian package depends on or recommends, and what its tests call.
PACKAGES = (
    *("systemd", "systemd-sysv", "dbus", "libnss-systemd", "libpam-systemd"),
    *("adduser", "init-system-helpers", "python3", "python3-venv", "ca-certificates"),
    *("curl", "iproute2", "procps", "libstdc++6"),
)
# They would work behind a test's back, or have nothing to work on.
MASKED = (
    *("apt-daily.timer", "apt-daily-upgrade.timer", "dpkg-db-backup.timer", "man-db.timer"),
    *("e2scrub_all.timer", "e2scrub_reap.service", "systemd-timesyncd.service"),
    *("systemd-journald-audit.socket", "console-getty.service"),
)
HOST_PROGRAMS = {"mmdebstrap": "mmdebstrap", "systemd-nspawn": "systemd-container"}


def pristine(suite: str) -> Path:
    """The folder of a suite's root, built if need be (a minute or two)."""
    recipe = repr((suite, PACKAGES, MASKED, Path(__file__).read_bytes()))
    root = able.CACHE / f"root-{suite}-{hashlib.sha256(recipe.encode()).hexdigest()[:8]}"
    able.CACHE.mkdir(mode=0o700, parents=True, exist_ok=True)
    with _only_one(able.CACHE / f"{suite}.lock"):
        if not root.exists():
            _build(suite, root)
    return root


def _build(suite: str, root: Path) -> None:
    print(f"building Debian {suite} in {root}", file=sys.stderr)
    for old in able.CACHE.glob(f"root-{suite}-*"):
        shutil.rmtree(old)
    half_done = root.with_name(f"new-{root.name}")
    shutil.rmtree(half_done, ignore_errors=True)
    with _only_one(able.CACHE / "apt.lock"):
        _install_host_programs()
    sources = "".join(f"{line}\n" for line in _sources(suite))
    options = [f"--aptopt={line}" for line in _apt_options()]
    subprocess.run(
        [
            *("mmdebstrap", "--quiet", "--mode=root", "--variant=minbase"),
            *(f"--include={','.join(PACKAGES)}", *options, "--dpkgopt=force-unsafe-io"),
            *("--dpkgopt=path-exclude=/usr/share/locale/*", suite, str(half_done), "-"),
        ],
        input=sources,
        text=True,
        check=True,
    )
    _configure(half_done)
    half_done.rename(root)


def _configure(root: Path) -> None:
    """What makes it a machine: a name, and no unit that disturbs."""
    (root / "etc/hostname").write_text("tsd-system\n")
    (root / "etc/hosts").write_text("127.0.0.1 localhost tsd-system\n::1 localhost\n")
    # Each machine makes its own at its first boot.
    (root / "etc/machine-id").write_text("")
    for unit in MASKED:
        mask = root / "etc/systemd/system" / unit
        mask.unlink(missing_ok=True)
        mask.symlink_to("/dev/null")
    # Kept over a reboot, and without the host kernel's lines.
    (root / "var/log/journal").mkdir(exist_ok=True)
    journal = root / "etc/systemd/journald.conf.d/tests.conf"
    journal.parent.mkdir(exist_ok=True)
    journal.write_text("[Journal]\nAudit=no\nReadKMsg=no\nStorage=persistent\nRateLimitBurst=0\n")


def _install_host_programs() -> None:
    wanted = [package for name, package in HOST_PROGRAMS.items() if shutil.which(name) is None]
    if not wanted:
        return
    environment = os.environ | {"DEBIAN_FRONTEND": "noninteractive"}
    subprocess.run(["apt-get", "update", "-q"], check=True, stdout=sys.stderr)
    install = ("apt-get", "install", "-qy", "--no-install-recommends")
    subprocess.run([*install, *wanted], env=environment, check=True, stdout=sys.stderr)


def _sources(suite: str) -> list[str]:
    """The host's own Debian mirrors, for another suite."""
    shown = "$(ORIGIN) $(CODENAME) $(COMPONENT) $(REPO_URI)"
    query = ("apt-get", "indextargets", "--format", shown, "Created-By: Packages")
    targets = subprocess.run(query, capture_output=True, text=True, check=True).stdout
    host = re.search(r"^VERSION_CODENAME=(\S+)", Path("/etc/os-release").read_text(), re.M)
    found = set()
    for line in targets.splitlines():
        origin, codename, component, uri = line.split(" ")
        if host and (origin, component) == ("Debian", "main") and codename.startswith(host[1]):
            found.add(f"deb {uri} {codename.replace(host[1], suite, 1)} main")
    if not found:
        raise SystemExit("apt on this machine knows no mirror of Debian: run `apt-get update`")
    return sorted(found)


def _apt_options() -> list[str]:
    """Proxies and checks, as apt has them on the host."""
    settings = subprocess.run(["apt-config", "dump"], capture_output=True, text=True, check=True)
    is_wanted = re.compile(r'Acquire::(https?|Check|Languages)\S* "[^"]+";')
    return [line.rstrip(";") for line in settings.stdout.splitlines() if is_wanted.match(line)]


@contextlib.contextmanager
def _only_one(lock: Path) -> Iterator[None]:
    with lock.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


if __name__ == "__main__":
    if able.main() != 0:
        sys.exit(1)
    for wanted_suite in sys.argv[1:] or SUITES:
        pristine(wanted_suite)
