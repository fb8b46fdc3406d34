"""Libraries that some handlers need and most runtimes lack."""

from __future__ import annotations

import importlib
from typing import Any


def library(name: str, needed_for: str) -> Any:
    """The module, imported; where the runtime has none, an ImportError that says what to do."""
    try:
        return importlib.import_module(name)
    except ImportError as error:
        package = name.partition(".")[0]
        raise ImportError(
            f"{needed_for} needs {package}, which this runtime does not have ({error}): install it "
            "there, or name a runtime that has it"
        ) from error
