"""The driver, its device nodes, and who may open them."""

from __future__ import annotations

import pytest

from tests.unit.tsctl.made_up import RUNTIME, MadeUp
from tsctl.checks import gpu
from tsd.runtimes import builds

OPEN_MODULE = "NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  580.65.06  Release Build\n"
OLD_MODULE = "NVRM version: NVIDIA UNIX x86_64 Kernel Module  535.183.01  Sun May 12 19:39:15 UTC\n"
NODES = ("nvidiactl", "nvidia-uvm", "nvidia0")


def with_driver(made_up: MadeUp, said: str = OPEN_MODULE) -> MadeUp:
    made_up.file("/proc/driver/nvidia/version", said)
    made_up.folder("/proc/driver/nvidia/gpus/0000:01:00.0")
    for name in NODES:
        made_up.file(f"/dev/{name}", mode=0o666)
    return made_up


@pytest.mark.parametrize(
    ("said", "version"), [(OPEN_MODULE, "580.65.06"), (OLD_MODULE, "535.183.01")]
)
def test_the_driver_tells_its_version(made_up: MadeUp, said: str, version: str) -> None:
    assert gpu.driver_version(with_driver(made_up, said).machine()) == version


def test_the_drivers_module_tells_it_too(made_up: MadeUp) -> None:
    made_up.file("/sys/module/nvidia/version", "570.86.15\n")
    assert gpu.driver_version(made_up.machine()) == "570.86.15"


def test_without_a_gpu_there_is_nothing_to_check(made_up: MadeUp) -> None:
    machine = made_up.machine()
    assert gpu.driver(machine).ok is None
    assert gpu.devices(machine).ok is None


def test_a_gpu_without_its_driver_is_wrong(made_up: MadeUp) -> None:
    made_up.file("/sys/bus/pci/devices/0000:01:00.0/vendor", "0x10de\n")
    made_up.file("/sys/bus/pci/devices/0000:01:00.0/class", "0x030200\n")
    found = gpu.driver(made_up.machine())
    assert found.ok is False
    assert "0000:01:00.0" in found.text
    assert "modprobe nvidia" in found.fix


@pytest.mark.parametrize(("said", "ok"), [(OPEN_MODULE, True), (OLD_MODULE, False)])
def test_the_driver_is_compared_with_the_cuda_of_the_runtimes(
    made_up: MadeUp, said: str, *, ok: bool
) -> None:
    found = gpu.driver(with_driver(made_up, said).machine())
    assert found.ok is ok
    assert ok or "too old for CUDA 13.0 of runtime cuda" in found.text


@pytest.mark.parametrize("cuda", ["", None, "cpu", "12.4", "99"])
def test_a_driver_suits_other_runtimes(made_up: MadeUp, cuda: str | None) -> None:
    made_up.runtimes = [{**RUNTIME, "cuda": cuda}, {}]
    assert gpu.driver(with_driver(made_up, OLD_MODULE).machine()).ok is True


def test_all_nodes_are_there_and_open(made_up: MadeUp) -> None:
    assert gpu.devices(with_driver(made_up).machine()).ok is True


@pytest.mark.parametrize("name", NODES)
def test_a_missing_node_is_named(made_up: MadeUp, name: str) -> None:
    (with_driver(made_up).root / "dev" / name).unlink()
    found = gpu.devices(made_up.machine())
    assert (found.ok, found.text) == (False, f"/dev/{name} is missing")
    assert "nvidia-modprobe" in found.fix


def test_a_node_that_the_daemon_may_not_open_is_named(made_up: MadeUp) -> None:
    with_driver(made_up).file("/dev/nvidia0", mode=0o600)
    made_up.file("/etc/passwd", "tsd:x:990:990::/:/n\n")
    found = gpu.devices(made_up.machine())
    assert found.ok is False
    assert "tsd may not open /dev/nvidia0 (-rw-------" in found.text
    assert "usermod -aG" in found.fix


def test_a_unit_that_hides_devices_needs_none(made_up: MadeUp) -> None:
    made_up.service["PrivateDevices"] = "yes"
    found = gpu.devices(with_driver(made_up).machine())
    assert found.ok is None
    assert "PrivateDevices" in found.text


def test_the_client_and_the_daemon_know_the_same_drivers() -> None:
    # tsctl imports nothing of tsd's, so that it works without.
    assert gpu.OLDEST_DRIVER == builds.MINIMUM_DRIVER
