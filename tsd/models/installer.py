"""The program that installs a model's requirements: run by the runtime's interpreter, not imported.

pip works in a virtual environment that sees all that the runtime has, so that only what is missing
comes anew. What workers have imported before they are forked cannot be another version: it is
pinned. Of the environment only the folder of packages is kept. Standard library only."""

from __future__ import annotations

import contextlib
import importlib
import importlib.metadata
import subprocess
import sys
import sysconfig
import venv
from pathlib import Path

# As the fork server imports them; see worker/zygote.py.
PRELOADED = ("torch", "numpy", "orjson", "PIL.Image", "torchvision")
PIP = ("-m", "pip", "--disable-pip-version-check", "--no-input", "--no-color")


def main(requirements: Path, staging: Path, place: Path) -> int:
    """Make the folder `place`; it appears whole, by rename, or not at all."""
    venv.create(staging, with_pip=False, symlinks=True)
    packages = Path(sysconfig.get_path("purelib", "venv", {"base": str(staging)}))
    seen = packages / "runtime.pth"
    seen.write_text("\n".join(runtime_folders()))
    pins = staging / "pins.txt"
    pins.write_text("\n".join(preloaded_versions()))
    interpreter = str(staging / "bin" / "python")
    command = [
        *(sys.executable, *PIP, "--python", interpreter, "install", "--no-warn-script-location"),
        *("--requirement", str(requirements), "--constraint", str(pins)),
    ]
    status = subprocess.run(command, check=False).returncode
    if status == 0:
        seen.unlink()
        packages.rename(place)
    return status


def runtime_folders() -> list[str]:
    """Where the runtime's packages lie."""
    return [path for path in sys.path if Path(path).name in ("site-packages", "dist-packages")]


def preloaded_versions() -> list[str]:
    """`NAME==VERSION` of every package that is imported where workers are forked from."""
    for name in PRELOADED:
        with contextlib.suppress(ImportError):
            importlib.import_module(name)
    imported = {name.partition(".")[0] for name in sys.modules}
    packages = importlib.metadata.packages_distributions()
    names = {package for module in imported for package in packages.get(module, ())}
    return sorted(f"{name}=={importlib.metadata.version(name)}" for name in names)


if __name__ == "__main__":
    sys.exit(main(*map(Path, sys.argv[1:])))
