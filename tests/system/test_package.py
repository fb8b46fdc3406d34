"""The Debian packages themselves: what is in them, how they are built, and their own tests."""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import subprocess
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.system import able
from tests.system.conftest import REPOSITORY, Packages, install
from tests.system.machine import Machine

DEB = REPOSITORY / "packaging/deb"
PYTHONS = ("311", "312", "313")
LARGEST_BYTES = 30 * 1024 * 1024


@pytest.fixture(scope="module")
def checkers() -> None:
    """The programs that judge packages and scripts, installed where root may."""
    missing = [name for name in ("lintian", "shellcheck") if shutil.which(name) is None]
    if missing and os.geteuid() != 0:
        pytest.skip(f"{missing} are not installed")
    if missing:
        command = ["apt-get", "install", "-qy", "--no-install-recommends", *missing]
        without_questions = os.environ | {"DEBIAN_FRONTEND": "noninteractive"}
        subprocess.run(command, env=without_questions, check=True)


@pytest.fixture
def content(packages: Packages, tmp_path: Path) -> Path:
    """The daemon's package, unpacked."""
    subprocess.run(["dpkg-deb", "--raw-extract", packages.tsd, tmp_path / "tsd"], check=True)
    return tmp_path / "tsd"


def test_lintian_finds_nothing(checkers: None, packages: Packages) -> None:
    command = ["lintian", "--fail-on", "error,warning", "--info"]
    for package in (packages.tsd, packages.torchserve):
        done = subprocess.run([*command, package], capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout


def test_shellcheck_finds_nothing(checkers: None) -> None:
    scripts = list(shell_scripts())
    assert {"build", "run", "smoke", "tsd.postinst"} <= {script.name for script in scripts}
    command: list[str | Path] = ["shellcheck", "--external-sources", *scripts]
    done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout


def shell_scripts() -> Iterator[Path]:
    """What starts as a script of sh or bash, in the folders that have any."""
    for folder in (".ci", "packaging"):
        for path in (REPOSITORY / folder).rglob("*"):
            if path.is_file() and re.match(rb"#!.*\b(ba)?sh\n", path.read_bytes()[:80]):
                yield path


@pytest.mark.timeout(900)
def test_two_builds_give_the_same_bytes(tmp_path: Path) -> None:
    for reason in able.reasons():
        pytest.skip(reason)
    # An hour of another place, another user's mask, another folder.
    first = build(tmp_path / "one", {"TZ": "UTC"}, umask=0o022)
    second = build(tmp_path / "another-place", {"TZ": "Asia/Tokyo", "LC_ALL": "C"}, umask=0o077)
    assert len(first) == 2
    assert first == second


def build(folder: Path, variables: dict[str, str], umask: int) -> dict[str, str]:
    """Build in that folder; the hashes of the packages."""
    for wheels in (REPOSITORY / "build/deb").glob("wheels-*"):
        shutil.copytree(wheels, folder / wheels.name)
    subprocess.run(
        DEB / "build",
        env=os.environ | variables | {"OUT": str(folder)},
        umask=umask,
        stdout=subprocess.DEVNULL,
        check=True,
    )
    packages = folder.glob("*.deb")
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in packages}


def test_it_serves_three_pythons_and_carries_no_torch(packages: Packages, content: Path) -> None:
    dependencies = content / "usr/lib/tsd/dependencies"
    for python in PYTHONS:
        compiled = {path.name.partition(".")[0] for path in dependencies.rglob(f"*-{python}-*.so")}
        assert compiled == {"_core", "_yaml", "cygrpc", "loop", "parser", "url_parser"}
    names = {path.name for path in content.rglob("*")}
    assert not {name for name in names if re.match(r"(lib)?torch(\.|_|-|$)", name)} - {
        # Handlers' own base class, and what speaks TorchServe's words.
        *("torch_handler", "torch_prof"),
    }
    assert not {name for name in names if name.endswith((".pyc", ".pyx", ".c", ".h"))}
    assert packages.tsd.stat().st_size < LARGEST_BYTES


def test_every_dependency_is_pinned_and_its_licence_is_named(content: Path) -> None:
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]
    needed = {plain(re.split(r"[<>=]", line)[0]) for line in project["dependencies"]}
    pinned = pins(DEB / "dependencies.in")
    assert needed <= pinned.keys()
    assert pins(DEB / "dependencies.lock") == pinned
    described = (content / "usr/lib/tsd/dependencies").glob("*.dist-info/METADATA")
    shipped = {path.parent.name.removesuffix(".dist-info") for path in described}
    assert {plain(name.partition("-")[0]) for name in shipped} == pinned.keys()
    rights = (content / "usr/share/doc/tsd/copyright").read_text()
    globs = re.findall(r"dependencies/(\S+?)-?\*", rights)
    unnamed = {name for name in shipped if not any(name.startswith(known) for known in globs)}
    assert unnamed == set()


def pins(file: Path) -> dict[str, str]:
    """Name -> version."""
    found = re.findall(r"^([\w.-]+)==([\w.]+)", file.read_text(), flags=re.M)
    return {plain(name): version for name, version in found}


def plain(name: str) -> str:
    """A package's name, as indices compare it."""
    return re.sub(r"[-_.]+", "-", name).lower()


def test_the_packages_own_tests_pass_where_there_is_no_torch(
    fresh_machine: Machine, packages: Packages
) -> None:
    install(fresh_machine, packages.tsd, packages.torchserve)
    fresh_machine.copy_in(DEB / "debian/tests", "/root/tests")
    for name in ("smoke", "upgrade"):
        folder = f"/tmp/{name}"
        fresh_machine.run("mkdir", folder)
        fresh_machine.run("env", f"AUTOPKGTEST_TMP={folder}", f"/root/tests/{name}")
