"""What processes hold and how often they wake, as the kernel counts it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Memory:
    """In MB of a million bytes. `shared_out`: with every shared page divided by its holders."""

    resident: float
    shared_out: float
    private: float


def memory(pid: int) -> Memory:
    """Of one process, now."""
    return memory_in(Path(f"/proc/{pid}/smaps_rollup").read_text())


def memory_in(text: str) -> Memory:
    """What a smaps_rollup says."""
    kb = {
        name.strip(): int(rest.split()[0])
        for name, _, rest in (line.partition(":") for line in text.splitlines())
        if rest.endswith("kB")
    }
    private = kb["Private_Clean"] + kb["Private_Dirty"]
    return Memory(*(n * 1024 / 1e6 for n in (kb["Rss"], kb["Pss"], private)))


def wake_ups(pid: int) -> int:
    """How often its threads that live now have gone to sleep and come back."""
    texts = [path.read_text() for path in Path(f"/proc/{pid}/task").glob("*/status")]
    return sum(_switches(text) for text in texts)


def _switches(status: str) -> int:
    name = "voluntary_ctxt_switches:"
    return next(int(line.split()[1]) for line in status.splitlines() if line.startswith(name))
