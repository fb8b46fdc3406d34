"""A virtual environment for each peer, filled by pip from its file of pinned versions."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

from tsctl.failure import Failure, Status

REQUIREMENTS = Path(__file__).parent / "requirements"
# What the environment was made from; written last, so that half of one is made again.
MADE_FROM = "made-from.txt"


def environment(name: str, cache: Path) -> Path:
    """The folder of the peer's environment below `cache`; made if it is not as it should be."""
    folder, wanted = cache / name, requirements(name)
    made_from = folder / MADE_FROM
    if not made_from.is_file() or made_from.read_text() != wanted:
        shutil.rmtree(folder, ignore_errors=True)
        _make(name, folder)
        made_from.write_text(wanted)
    return folder


def requirements(name: str) -> str:
    """What is installed for it, and for which Python."""
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    return f"# Python {version}\n{(REQUIREMENTS / f'{name}.txt').read_text()}"


def packages(folder: Path) -> Path:
    """Where the environment keeps its packages."""
    return next((folder / "lib").glob("python3*")) / "site-packages"


def _make(name: str, folder: Path) -> None:
    print(f"{name}: installing into {folder}", file=sys.stderr, flush=True)
    folder.parent.mkdir(parents=True, exist_ok=True)
    _run(name, "venv", "--without-pip", str(folder))
    listed = str(REQUIREMENTS / f"{name}.txt")
    _run(name, "pip", "--python", f"{folder}/bin/python", "install", "--quiet", "-r", listed)


def _run(name: str, module: str, *words: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", module, *words],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
        env=os.environ | {"PIP_DISABLE_PIP_VERSION_CHECK": "1"},
    )
    if done.returncode:
        raise Failure(
            Status.FAILED,
            f"the environment of {name} was not made",
            done.stdout.strip()[-1000:],
            "see benchmarks/peers/README.md for what each peer needs, or leave it out with --only",
        )
