"""The version, as a module of its own."""

from ts import __version__

__all__ = ["__version__"]
