"""Interpreters for tests: with the packages of the tests' own, or without some of them."""

from __future__ import annotations

import venv
import zipfile
from collections.abc import Container
from importlib.util import find_spec
from pathlib import Path

ROOT = Path(__file__).parents[2]
TORCH = find_spec("torch")
assert TORCH is not None
assert TORCH.origin is not None
PACKAGES = Path(TORCH.origin).parents[1]


def environment(folder: Path, *, hidden: Container[str] = (), has_project: bool = False) -> Path:
    """A virtual environment that sees the same packages, except the `hidden`.

    Its folder is returned. `has_project`: whether it can run the daemon, too."""
    venv.create(folder, with_pip=False, symlinks=True)
    own = packages_of(folder)
    for entry in PACKAGES.iterdir():
        if entry.name not in hidden and entry.suffix != ".pth":
            (own / entry.name).symlink_to(entry)
    if has_project:
        (own / "project.pth").write_text(f"{ROOT}\n")
    return folder


def packages_of(folder: Path) -> Path:
    """Where the packages of an environment lie."""
    return next(folder.glob("lib/python*/site-packages"))


def make_wheels(folder: Path, torch: str = "2.13.0") -> Path:
    """Packages for pip that stand for torch and its companions: they lead to the tests' own."""
    folder.mkdir()
    leads_there = {"tests.pth": f"{PACKAGES}\n"}
    _make_wheel(folder, "torch", torch, leads_there)
    for name, version in (("numpy", "2.0"), ("pillow", "11.0"), ("orjson", "3.10")):
        _make_wheel(folder, name, version, {})
    return folder


def _make_wheel(folder: Path, name: str, version: str, files: dict[str, str]) -> None:
    about = f"{name}-{version}.dist-info"
    files = files | {
        f"{about}/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n",
        f"{about}/WHEEL": "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    files[f"{about}/RECORD"] = "".join(f"{path},,\n" for path in [*files, f"{about}/RECORD"])
    with zipfile.ZipFile(folder / f"{name}-{version}-py3-none-any.whl", "w") as wheel:
        for path, content in files.items():
            wheel.writestr(path, content)
