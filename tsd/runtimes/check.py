"""Whether an interpreter can be a runtime: tried as its fork server would be, by the same user.

The program that it runs is worker/probe.py; nothing that it prints is believed beyond its form."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

import msgspec

from tsd import programs
from tsd.errors import RuntimeRefused
from tsd.runtimes.command import worker_side

PROGRAM = "tsd.worker.probe"
MAX_OUTPUT_BYTES = 65_536
SHOWN_BYTES = 1_000
# What the unit's sandbox puts in the place of these, the operator does not see.
HIDDEN = ("/home/", "/root/", "/run/user/", "/tmp/", "/var/tmp/")
OR_CREATE = "or let the daemon make one: `tsctl runtime create`"


class Found(msgspec.Struct, frozen=True):
    """What an interpreter said of itself. `cuda`: what torch was built for, "" for the CPU only."""

    python: str = ""
    abi: str = ""
    has_torch: bool = True
    torch: str = ""
    packages: dict[str, str] = {}
    cuda: str = ""
    cuda_trouble: str = ""
    trouble: str = ""

    @property
    def versions(self) -> dict[str, str]:
        """Of the parts that are there."""
        parts = {"python": self.python, "torch": self.torch, "cuda": self.cuda, **self.packages}
        return {name: version for name, version in parts.items() if version}


def interpreter_of(path: Path) -> Path:
    """The interpreter there: the file itself, or the one of an environment's folder."""
    try:
        python = path / "bin" / "python" if path.is_dir() else path
        # Not resolved: an environment's interpreter is a link, and knows by it where it belongs.
        # A pipe, opened to be read, would wait for who writes.
        os.close(os.open(python, os.O_RDONLY | os.O_NONBLOCK))
    except OSError as error:
        raise _unreachable(path, error) from None
    if not os.access(python, os.X_OK):
        raise RuntimeRefused(
            "That is no interpreter.",
            why=f"{python} is not executable",
            fix="name a python, or the folder of a virtual or conda environment",
        )
    return python


async def check(python: Path, timeout_s: float, environment: Mapping[str, str]) -> Found:
    """What it can do; raises RuntimeRefused where it cannot run workers."""
    output = bytearray()

    def take(part: bytes) -> None:
        output.extend(part)
        del output[:-MAX_OUTPUT_BYTES]

    try:
        command = worker_side(python, PROGRAM)
        status = await programs.run(command, take, timeout_s, environment)
    except OSError as error:
        raise _refused(python, error.strerror or str(error)) from None
    if status is None:
        raise _refused(python, f"it did not import torch in {timeout_s:g} s: {tail(output)}")
    return judged(python, bytes(output))


def judged(python: Path, output: bytes) -> Found:
    """What the probe's output comes to; raises as `check`."""
    found = _found(output)
    if found is None:
        if b"Unknown option: -P" in output:
            raise _refused(python, "it is older than Python 3.11", "take Python 3.11 or newer")
        raise _refused(python, tail(output) or "it said nothing")
    if not found.has_torch:
        fix = f"install it: `{python} -m pip install torch`; {OR_CREATE}"
        raise _refused(python, f"Python {found.python} there has no torch", fix)
    if found.trouble:
        raise _refused(python, f"Python {found.python}: {found.trouble}")
    return found


def tail(output: bytes | bytearray) -> str:
    """The last words of a program."""
    return bytes(output[-SHOWN_BYTES:]).decode(errors="replace").strip()


def _found(output: bytes) -> Found | None:
    """The last line that is what the probe prints; packages may say more, before or after."""
    for line in reversed(output.splitlines()):
        if line.startswith(b"{"):
            try:
                return msgspec.json.decode(line, type=Found)
            except (msgspec.DecodeError, RecursionError):
                continue
    return None


def _refused(python: Path, why: str, fix: str = "") -> RuntimeRefused:
    fix = fix or f"try `{python} -c 'import torch'` as the daemon's user; {OR_CREATE}"
    return RuntimeRefused("That interpreter cannot run workers.", why=f"{python}: {why}", fix=fix)


def _unreachable(path: Path, error: OSError) -> RuntimeRefused:
    is_hidden = f"{path}/".startswith(HIDDEN)
    sandbox = (
        "; the unit's sandbox hides /home, /root and /tmp from the daemon" if is_hidden else ""
    )
    return RuntimeRefused(
        "The daemon finds no interpreter there.",
        why=f"{error.filename or path}: {error.strerror}{sandbox}",
        fix=f"put it where the daemon's user can read it, below /opt for one; {OR_CREATE}",
    )
