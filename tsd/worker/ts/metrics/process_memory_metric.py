"""How much memory processes use, for what imports it: the daemon measures by itself."""

from __future__ import annotations

import logging
from typing import TextIO

from tsd.process import rss_bytes

logger = logging.getLogger(__name__)


def get_cpu_usage(pid: str | int) -> int:
    """Bytes of memory, whatever the name says; 0 when the process is gone."""
    return rss_bytes(int(pid))


def check_process_mem_usage(stdin: TextIO) -> None:
    """Log `PID:BYTES` for each of the process ids on one line of input."""
    for pid in stdin.readline().strip().split(","):
        if pid:
            logger.info("%s:%d", pid, get_cpu_usage(pid))
