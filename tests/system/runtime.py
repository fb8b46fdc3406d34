"""The interpreter that has torch, in a test machine: the one of the host's environment.

Its files are bound read-only below /opt, where other users than root may read them and
ProtectHome= hides nothing. The path file keeps out what the environment knows of this checkout:
the tsd of a machine is the package's."""

from __future__ import annotations

import sys
import sysconfig
from pathlib import Path

from tests.system.machine import Machine

PYTHON = Path("/opt/python")
PACKAGES = Path("/opt/packages")
ENVIRONMENT = Path("/opt/runtime")

BINDS = {Path(sys.base_prefix): PYTHON, Path(sysconfig.get_path("purelib")): PACKAGES}


def place(machine: Machine) -> Path:
    """Lay out a virtual environment as `python -m venv` does; its path in the machine."""
    version = f"python{sys.version_info.major}.{sys.version_info.minor}"
    machine.write(
        f"{ENVIRONMENT}/pyvenv.cfg",
        f"home = {PYTHON}/bin\ninclude-system-site-packages = false\n",
    )
    # A folder named in a path file is searched, but the path files in it are not read.
    machine.write(f"{ENVIRONMENT}/lib/{version}/site-packages/packages.pth", f"{PACKAGES}\n")
    machine.run("mkdir", "-p", f"{ENVIRONMENT}/bin")
    for name in ("python", "python3", version):
        machine.run("ln", "-sfn", f"{PYTHON}/bin/{version}", f"{ENVIRONMENT}/bin/{name}")
    # An interpreter that is a shared library looks for it where it was built.
    machine.write("/etc/ld.so.conf.d/runtime.conf", f"{PYTHON}/lib\n")
    machine.run("ldconfig")
    return ENVIRONMENT
