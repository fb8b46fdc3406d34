"""The NVIDIA driver, its device nodes, and whether the runtime's CUDA fits them."""

from __future__ import annotations

import re
import stat
from pathlib import Path

from tsctl.checks.finding import Finding, good, together, unseen, wrong
from tsctl.failure import Failure, Json
from tsctl.machine import Account, Machine

NVIDIA = "0x10de"
DISPLAY_CLASS = "0x03"
NO_GPU = "no NVIDIA GPU: models run on the CPU"
LOAD_DRIVER = "sudo modprobe nvidia; if there is no such module: sudo apt install nvidia-driver"
MAKE_NODES = "sudo nvidia-modprobe -c 0 -u"
# The oldest driver that runs programs of any release of a major CUDA version, as NVIDIA's
# notes on minor version compatibility have it.
OLDEST_DRIVER = {11: 450, 12: 525, 13: 580}


def driver(machine: Machine) -> Finding:
    version = driver_version(machine)
    if version:
        return _for_runtimes(machine, version)
    cards = gpus(machine)
    if cards:
        return wrong(f"the GPU {cards[0]} is there, but its driver is not loaded", LOAD_DRIVER)
    return unseen(NO_GPU)


def driver_version(machine: Machine) -> str:
    """The version of the driver that is loaded; empty if none is."""
    said = machine.text("/sys/module/nvidia/version") or machine.text("/proc/driver/nvidia/version")
    found = re.search(r"\b\d{3,4}\.\d+(\.\d+)?\b", said)
    return found[0] if found else ""


def gpus(machine: Machine) -> list[str]:
    """The bus addresses of NVIDIA's GPUs, with or without a driver."""
    found = sorted(machine.path("/sys/bus/pci/devices").glob("*"))
    return [
        device.name
        for device in found
        if machine.text(f"/sys/bus/pci/devices/{device.name}/vendor").strip() == NVIDIA
        and machine.text(f"/sys/bus/pci/devices/{device.name}/class").startswith(DISPLAY_CLASS)
    ]


def _for_runtimes(machine: Machine, version: str) -> Finding:
    findings = [good(f"NVIDIA {version}")]
    answer = machine.ask_if_awake("/tsd/runtimes")
    runtimes = [] if isinstance(answer, Failure) else answer.get("runtimes") or []
    for runtime in runtimes:
        cuda = cuda_of(runtime)
        oldest = OLDEST_DRIVER.get(int(cuda.partition(".")[0] or 0), 0)
        if int(version.partition(".")[0]) < oldest:
            text = f"NVIDIA {version} is too old for CUDA {cuda} of runtime {runtime.get('name')}"
            fix = f"install a driver of {oldest} or later, or: tsctl runtime create auto"
            findings.append(wrong(text, fix))
    return together(findings)


def cuda_of(runtime: Json) -> str:
    """The CUDA version that a runtime's torch was built for; empty without."""
    said = str(runtime.get("cuda") or "")
    return said if re.match(r"\d+(\.|$)", said) else ""


def devices(machine: Machine) -> Finding:
    if not driver_version(machine):
        return unseen("no driver, so no device nodes")
    if machine.unit.get("PrivateDevices") == "yes":
        return unseen("the unit hides all devices (PrivateDevices=yes): models run on the CPU")
    cards = len(list(machine.path("/proc/driver/nvidia/gpus").glob("*")))
    names = ["nvidiactl", "nvidia-uvm", *(f"nvidia{number}" for number in range(cards))]
    account = machine.service_account
    return together([_node(machine.path(f"/dev/{name}"), account) for name in names])


def _node(path: Path, account: Account | None) -> Finding:
    try:
        node = path.stat()
    except OSError:
        return wrong(f"/dev/{path.name} is missing", MAKE_NODES)
    if account is None or _may_use(account, node.st_uid, node.st_gid, node.st_mode):
        return good(f"/dev/{path.name}")
    mode = stat.filemode(node.st_mode)
    text = f"{account.name} may not open /dev/{path.name} ({mode}, group {node.st_gid})"
    return wrong(text, f"sudo usermod -aG $(stat -c %G /dev/{path.name}) {account.name}")


def _may_use(account: Account, uid: int, gid: int, mode: int) -> bool:
    if account.uid in (0, uid):
        return account.uid == 0 or mode & 0o600 == 0o600
    shared = 0o060 if gid in account.gids else 0o006
    return mode & shared == shared
