"""A handler that does nothing: what remains is the server."""

from __future__ import annotations

from typing import Any


def handle(data: list[dict[str, Any]] | None, _context: object) -> list[bytes]:
    """The same answer for every row."""
    return [b'{"ok":true}'] * len(data or ())
