"""A handler that takes its time and none of the processor's: what waits for it is the server's."""

from __future__ import annotations

import time
from typing import Any

BATCH_S = 0.002


def handle(data: list[dict[str, Any]] | None, _context: object) -> list[bytes]:
    """The same answer for every row, after a while."""
    time.sleep(BATCH_S)
    return [b'{"ok":true}'] * len(data or ())
