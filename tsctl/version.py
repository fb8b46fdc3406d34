"""The version of tsctl: that of the package it came with."""


def installed_version() -> str:
    # Slow to import, and asked for by two commands only.
    from importlib.metadata import version

    return version("tsd")
