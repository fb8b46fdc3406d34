"""A file that is replaced whole: after a power cut it is the one before or the one after.

Written aside, fsync, rename, fsync of the directory; the generation before is kept beside it.
All of this may block: callers run it on an executor's thread."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from tsd.errors import StartupError

Content = TypeVar("Content")


def replace(path: Path, content: bytes) -> None:
    """Put the content there; OSError when that fails, and then the old one still stands."""
    aside = path.with_suffix(".new")
    with aside.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    previous = _previous_of(path)
    with contextlib.suppress(FileNotFoundError):
        previous.unlink()
    with contextlib.suppress(FileNotFoundError):
        os.link(path, previous)
    aside.rename(path)
    _sync_folder(path.parent)


def read(path: Path, decode: Callable[[bytes], Content]) -> tuple[Content | None, str]:
    """What the file holds, and what is wrong with it: "" when nothing is.

    `decode` raises ValueError for what is damaged: that is kept aside, as `.bad`, and the
    generation before is taken. None: there is neither. StartupError where it cannot be known."""
    try:
        return _read(path, decode)
    except OSError as error:
        raise StartupError(
            f"{error.filename or path} cannot be read.",
            why=str(error.strerror),
            fix="it has to belong to the daemon's user, as all in the state directory",
        ) from error


def _read(path: Path, decode: Callable[[bytes], Content]) -> tuple[Content | None, str]:
    trouble, missing = "", f"{path.name} is missing"
    try:
        return decode(path.read_bytes()), ""
    except FileNotFoundError:
        # Once written it is missing only where it was set aside, and nothing was saved since.
        pass
    except ValueError as damage:
        bad = path.rename(path.with_suffix(".bad"))
        trouble = f"{path.name} was damaged ({damage}) and is kept as {bad.name}"
    try:
        content = decode(_previous_of(path).read_bytes())
    except FileNotFoundError:
        return None, f"{trouble}; there is no generation before" if trouble else ""
    except ValueError as damage:
        return None, f"{trouble or missing}; the generation before is damaged, too: {damage}"
    return content, f"{trouble or missing}; the generation before is used"


def _previous_of(path: Path) -> Path:
    return path.with_suffix(".previous")


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
