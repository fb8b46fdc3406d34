"""How a program of the worker's side is started in another interpreter.

The runtime may have packages of its own: it is given this package and the multipart parser by
path, and nothing else of the daemon's."""

from __future__ import annotations

import os
from importlib.util import find_spec
from pathlib import Path

import tsd

BOOTSTRAP = """
import importlib, importlib.util, sys
def carry(name, path, folder):
    spec = importlib.util.spec_from_file_location(name, path, submodule_search_locations=folder)
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
carry("tsd", sys.argv[1] + "/__init__.py", [sys.argv[1]])
carry("multipart", sys.argv[2], None)
# Before all else: to import torch takes seconds, and the daemon may be gone by then.
importlib.import_module("tsd.process").die_with_parent(int(sys.argv[5]), wait_s=0)
importlib.import_module(sys.argv[3]).main(*map(int, sys.argv[4].split()))
"""


def worker_side(python: Path, program: str, *numbers: int) -> list[str]:
    """The command that calls `main(*numbers)` of that module; more words may follow.

    It is for a child of this process, and ends with it."""
    parser = find_spec("multipart")
    assert parser is not None, "tsd was installed without its dependencies"
    packages = (str(Path(tsd.__file__).parent), str(parser.origin))
    words = (program, " ".join(map(str, numbers)), str(os.getpid()))
    return [str(python), "-P", "-c", BOOTSTRAP, *packages, *words]
