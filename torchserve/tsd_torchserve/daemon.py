"""The process that `torchserve` starts: tsd, with folders of its own for as long as it runs.

Every start begins with an empty state: which models there are is said by TorchServe's rules
alone, that is by its options, its configuration file and its snapshots."""

import os
import shutil
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tsd.__main__ import main
from tsd_torchserve.pid_file import command_of

PREFIX = ".model_server."


def run() -> int:
    """Run the daemon; its exit status."""
    root = Path(os.environ.get("TEMP") or tempfile.gettempdir())
    remove_leftovers(root)
    with own_folder(root) as folder:
        places = ("--runtime-dir", str(folder / "run"), "--state-dir", str(folder / "state"))
        return main([*places, *sys.argv[1:]])


def remove_leftovers(root: Path) -> None:
    """Folders of servers that were killed."""
    for folder in root.glob(f"{PREFIX}[0-9]*"):
        number = folder.name.removeprefix(PREFIX)
        # In a container that is started again, a killed server may have had this one's number.
        is_own = number == str(os.getpid())
        if is_own or (number.isdecimal() and not command_of(int(number))):
            shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def own_folder(root: Path) -> Iterator[Path]:
    """A folder for this process alone, which its number names; removed at the end."""
    folder = root / f"{PREFIX}{os.getpid()}"
    folder.mkdir(mode=0o700)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    sys.exit(run())
