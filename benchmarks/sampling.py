"""Where a running Python process spends its time: py-spy's samples, and shares of them."""

from __future__ import annotations

import linecache
import re
import subprocess
import sys
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from benchmarks.load import cores, pinned
from tsctl.failure import Failure, Status

SAMPLES_PER_S = 400
MAIN_THREAD = "MainThread"
FRAME = re.compile(r"(?P<function>.*) \((?P<file>[^()]*?)(?::(?P<line>\d+))?\)")

# What belongs to logs, metrics and deadlines: whole files, and lines of others by what they do.
EXTRA_FILES = ("tsd/metrics.py", "tsd/measuring.py", "tsd/log_files.py", "tsd/log.py")
EXTRA_WORDS = re.compile(
    r"figures|deadline|monotonic\(|clock\(|\b_open\b|queued_at|left_at|_count|_on_answer"
)


@dataclass(frozen=True)
class Frame:
    """One function on a stack, and the line where it is."""

    function: str
    file: str
    line: int

    @property
    def text(self) -> str:
        """The line's source."""
        return linecache.getline(self.file, self.line).strip()

    def __str__(self) -> str:
        return f"{self.function} ({'/'.join(Path(self.file).parts[-2:])}:{self.line})"


Stacks = Counter[tuple[Frame, ...]]
"""How often each stack was seen; its outermost frame comes first."""


def sample(pid: int, seconds: int, folder: Path) -> Stacks:
    """The stacks of a process's main thread while it works.

    A thread that waits for the processor counts as working, one that waits for work does not."""
    output = folder / f"{pid}.stacks"
    program = Path(sys.executable).with_name("py-spy")
    command = [
        *(str(program), "record", "--pid", str(pid), "--duration", str(seconds)),
        *("--format", "raw", "--full-filenames", "--threads", "--rate", str(SAMPLES_PER_S)),
        *("--output", str(output)),
    ]
    try:
        subprocess.run(pinned(command, cores()[1]), capture_output=True, check=True)
    except FileNotFoundError:
        fix = "pip install '.[bench]', which `make bench` does"
        raise Failure(Status.FAILED, "py-spy is not installed", str(program), fix) from None
    except subprocess.CalledProcessError as error:
        said = error.stderr.decode(errors="replace").strip()[-500:]
        fix = "run it as root, or allow ptrace (kernel.yama.ptrace_scope)"
        raise Failure(Status.FAILED, "py-spy could not look", said, fix) from None
    return parsed(output.read_text().splitlines())


def parsed(lines: Iterable[str]) -> Stacks:
    """Lines of `thread;frame;frame;… count`; those of the main thread."""
    stacks: Stacks = Counter()
    for line in lines:
        names, _, count = line.rpartition(" ")
        thread, *frames = names.split(";")
        if MAIN_THREAD in thread and frames:
            stacks[tuple(_frame(one) for one in frames)] += int(count)
    return stacks


def _frame(text: str) -> Frame:
    found = FRAME.fullmatch(text)
    if found is None:
        return Frame(text, "", 0)
    return Frame(found["function"], found["file"], int(found["line"] or 0))


def extra_share(stacks: Stacks) -> float:
    """Which part of the time goes to logs, metrics and deadlines."""
    extra = sum(count for stack, count in stacks.items() if is_extra(stack))
    return extra / max(1, stacks.total())


def is_extra(stack: tuple[Frame, ...]) -> bool:
    """Whether it is inside one of the files, or on a line that does such a thing."""
    if any(frame.file.endswith(EXTRA_FILES) for frame in stack):
        return True
    leaf = stack[-1]
    return "/tsd/" in leaf.file and EXTRA_WORDS.search(leaf.text) is not None


def busiest(stacks: Stacks, count: int) -> list[tuple[str, float, float]]:
    """Functions by the time in themselves: name, own share, share with all that they call."""
    own: Counter[str] = Counter()
    whole: Counter[str] = Counter()
    for stack, times in stacks.items():
        names = [
            f"{frame.function} ({frame.file[frame.file.find('/tsd/') + 1 :]})" for frame in stack
        ]
        own[names[-1]] += times
        whole.update(dict.fromkeys(names, times))
    total = max(1, stacks.total())
    return [(name, n / total, whole[name] / total) for name, n in own.most_common(count)]
