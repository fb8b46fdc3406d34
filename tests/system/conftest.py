"""Machines for the system tests: one of each suite, the same one for many tests."""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.support.archives import make_archive
from tests.system import able, root, runtime
from tests.system.machine import Machine, booted

SUITES = os.environ.get("SUITE", " ".join(root.SUITES)).split()
REPOSITORY = Path(__file__).parents[2]
NEXT_VERSION = "0.1.1~test"
ASK = (
    *("curl", "--silent", "--show-error", "--fail", "--header", "Content-Type: text/plain"),
    *("--data", "question", "http://127.0.0.1:8080/predictions/load"),
)
"""One question to the model `load`; it waits in the backlog while nobody serves."""
LOAD_ARCHIVE = "/srv/models/load.mar"

TAKES_20_MS = """
    import time

    def handle(data, context):
        if data is None:
            return None
        time.sleep(0.02)
        return [row.get("body") or row["data"] for row in data]
"""
# What an open load asks for while nobody serves waits here, later.
LOAD_CONFIG = """
    minWorkers: 2
    maxWorkers: 2
    batchSize: 16
    maxBatchDelay: 5
    jobQueueSize: 10000
"""


@dataclass(frozen=True)
class Packages:
    """The packages of this checkout, and the daemon's once more as a later version."""

    tsd: Path
    torchserve: Path
    next_tsd: Path


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Each suite's tests stay together, with its machine, where several are tested at once."""
    for item in items:
        parameters = getattr(item, "callspec", None)
        if parameters is not None and "suite" in parameters.params:
            item.add_marker(pytest.mark.xdist_group(parameters.params["suite"]))


@pytest.fixture(scope="session", params=SUITES)
def suite(request: pytest.FixtureRequest) -> str:
    """A Debian release; `make system SUITE=trixie` tests one alone."""
    for reason in able.reasons():
        pytest.skip(reason)
    return str(request.param)


@pytest.fixture(scope="session")
def packages(tmp_path_factory: pytest.TempPathFactory) -> Packages:
    """What `make deb` built, or what lies in the folder that DEBS names."""
    built = Path(os.environ.get("DEBS", REPOSITORY / "build/deb"))
    found = {path.name.split("_")[0]: path for path in built.glob("*_*.deb")}
    assert {"tsd", "tsd-torchserve"} <= found.keys(), f"no packages in {built}: run `make deb`"
    later = _as_version(NEXT_VERSION, found["tsd"], tmp_path_factory.mktemp("later"))
    return Packages(tsd=found["tsd"], torchserve=found["tsd-torchserve"], next_tsd=later)


@pytest.fixture(scope="session")
def load_archive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The model that takes 20 ms and gives back what it got."""
    return make_archive(tmp_path_factory.mktemp("load"), "load", TAKES_20_MS, LOAD_CONFIG)


@pytest.fixture
def fresh_machine(suite: str) -> Iterator[Machine]:
    """A machine of the test's own, with a runtime laid out and nothing of tsd."""
    with booted(suite, runtime.BINDS) as machine:
        runtime.place(machine)
        yield machine


@pytest.fixture(scope="session")
def machine(suite: str, packages: Packages, load_archive: Path) -> Iterator[Machine]:
    """One machine for all tests that leave it as they found it: tsd serves the model `load`."""
    with booted(suite, runtime.BINDS) as shared:
        install(shared, packages.tsd)
        shared.run("tsctl", "runtime", "add", runtime.place(shared))
        shared.copy_in(load_archive, LOAD_ARCHIVE)
        shared.run("tsctl", "register", LOAD_ARCHIVE, "--initial-workers", "2")
        yield shared


def install(machine: Machine, *packages: Path) -> None:
    """Install packages, older ones too, as an administrator does who has the files."""
    for package in packages:
        machine.copy_in(package, f"/root/{package.name}")
    paths = [f"/root/{package.name}" for package in packages]
    machine.run("apt-get", "install", "-qy", "--allow-downgrades", *paths, timeout_s=120)


def _as_version(version: str, package: Path, folder: Path) -> Path:
    """The same package under another version: unpacked, renamed, and packed without squeezing."""
    tree = folder / "tree"
    subprocess.run(["dpkg-deb", "--raw-extract", package, tree], check=True)
    (metadata,) = tree.glob("usr/lib/tsd/tsd-*.dist-info")
    for described in (tree / "DEBIAN/control", metadata / "METADATA"):
        text = re.sub(r"^Version: .*$", f"Version: {version}", described.read_text(), flags=re.M)
        described.write_text(text)
    metadata.rename(metadata.with_name(f"tsd-{version}.dist-info"))
    (tree / "DEBIAN/md5sums").unlink()
    later = folder / package.name.replace(package.name.split("_")[1], version)
    subprocess.run(["dpkg-deb", "-Zgzip", "-z1", "--build", tree, later], check=True)
    return later
