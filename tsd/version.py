"""Which tsd this is."""

from __future__ import annotations

from functools import cache


@cache
def own_version() -> str:
    """The version of the installed package."""
    # Slow to import, and not needed to start.
    from importlib.metadata import version

    return version("tsd")
