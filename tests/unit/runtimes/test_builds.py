"""The build of torch is chosen by the driver, on machines made up for it."""

from __future__ import annotations

from pathlib import Path

import pytest

from tsd.errors import BadRequest, RuntimeRefused
from tsd.runtimes.builds import chosen, driver_version

PROC = (
    "NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  {}  Release Build  (dvs-builder)\n"
    "GCC version:  gcc version 13.3.0 (Ubuntu 13.3.0-6ubuntu2~24.04)\n"
)


def test_the_driver_says_its_version_in_one_of_two_places(tmp_path: Path) -> None:
    assert driver_version(tmp_path) == ""
    proc, sys = tmp_path / "proc/driver/nvidia/version", tmp_path / "sys/module/nvidia/version"
    proc.parent.mkdir(parents=True)
    proc.write_text(PROC.format("580.82.07"))
    assert driver_version(tmp_path) == "580.82.07"
    # The unit's sandbox may hide the first one only.
    sys.parent.mkdir(parents=True)
    sys.write_text("570.26\n")
    assert driver_version(tmp_path) == "570.26"


@pytest.mark.parametrize(
    ("asked", "driver", "build"),
    [
        ("auto", "", "cpu"),
        ("auto", "525.60.13", "cu126"),
        ("auto", "579.99", "cu126"),
        ("auto", "580.65.06", "cu130"),
        ("auto", "1000.1", "cu130"),
        ("cpu", "", "cpu"),
        ("cpu", "390.157", "cpu"),
        ("cu128", "570.26", "cu128"),
        # Without a driver it is made for another day.
        ("cu130", "", "cu130"),
        ("cu118", "470.57.02", "cu118"),
    ],
)
def test_the_best_build_that_the_driver_runs(asked: str, driver: str, build: str) -> None:
    assert chosen(asked, driver) == build


@pytest.mark.parametrize(("asked", "driver"), [("auto", "470.57.02"), ("cu130", "575.51.03")])
def test_a_driver_that_is_too_old_is_told(asked: str, driver: str) -> None:
    with pytest.raises(RuntimeRefused) as caught:
        chosen(asked, driver)
    assert driver in caught.value.why


@pytest.mark.parametrize("asked", ["", "gpu", "cu", "cu13", "cu1300", "cu991", "CPU", "cpu\n"])
def test_what_is_no_build_is_refused(asked: str) -> None:
    with pytest.raises(BadRequest, match="Unknown build"):
        chosen(asked, "580.65.06")
