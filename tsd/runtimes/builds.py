"""Which build of torch this machine can run: for the CPU, or for a version of CUDA."""

from __future__ import annotations

import re
from pathlib import Path

from tsd.errors import BadRequest, RuntimeRefused

CPU = "cpu"
AUTO = "auto"
BUILD = re.compile(r"cpu|cu(?P<major>[0-9]{2})[0-9]")
# The builds that `auto` chooses from, the best first.
CUDA_BUILDS = ("cu130", "cu126")
MINIMUM_DRIVER = {11: 450, 12: 525, 13: 580}
"""CUDA's major version -> the oldest driver branch for Linux that runs what is built for it.

Source: NVIDIA, "CUDA Compatibility", chapter "Minor Version Compatibility", table 1."""

# The first says it under ProcSubset=pid, too.
DRIVER_FILES = ("sys/module/nvidia/version", "proc/driver/nvidia/version")
DRIVER_VERSION = re.compile(r"\b([0-9]{3,4})\.[0-9]+(\.[0-9]+)?\b")


def driver_version(root: Path = Path("/")) -> str:
    """Of the NVIDIA driver that is loaded; "": there is none."""
    for name in DRIVER_FILES:
        try:
            found = DRIVER_VERSION.search((root / name).read_text(errors="replace"))
        except OSError:
            continue
        if found:
            return found[0]
    return ""


def chosen(asked: str, driver: str) -> str:
    """The build that is asked for, or with `auto` the one for that driver.

    Raises BadRequest for what is no build; RuntimeRefused where the driver is too old for it."""
    if asked == AUTO:
        return _best(driver)
    build = BUILD.fullmatch(asked)
    if build is None or (build["major"] and int(build["major"]) not in MINIMUM_DRIVER):
        raise BadRequest(
            f"Unknown build of torch: {asked[:20]}", fix=f"cpu, {', '.join(CUDA_BUILDS)} or auto"
        )
    if driver and not _runs(asked, driver):
        raise _too_old(driver, f"{asked} needs {MINIMUM_DRIVER[int(build['major'])]} or newer")
    return asked


def _best(driver: str) -> str:
    if not driver:
        return CPU
    for build in CUDA_BUILDS:
        if _runs(build, driver):
            return build
    raise _too_old(driver, "no current build of torch for CUDA runs on it")


def _runs(build: str, driver: str) -> bool:
    major = BUILD.fullmatch(build)
    if major is None or not major["major"]:
        return True
    return int(driver.partition(".")[0]) >= MINIMUM_DRIVER[int(major["major"])]


def _too_old(driver: str, why: str) -> RuntimeRefused:
    return RuntimeRefused(
        "The NVIDIA driver is too old for that.",
        why=f"it is {driver}; {why}",
        fix="install a newer driver, ask for an older build, or `tsctl runtime create cpu`",
    )
