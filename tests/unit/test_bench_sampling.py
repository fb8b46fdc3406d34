"""What the bench reads from py-spy and from the kernel."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from benchmarks.memory import memory, memory_in, wake_ups
from benchmarks.sampling import busiest, extra_share, is_extra, parsed

MAIN = "thread (0x1): MainThread"
METRICS = "Histogram.observe (/srv/tsd/metrics.py:9)"


def test_the_stacks_of_the_main_thread_are_counted() -> None:
    lines = [f"{MAIN};run (/a/x.py:1);{METRICS} 3", "thread (0x2): writer;run (/a/x.py:1) 5"]
    ((stack, count),) = parsed(lines).items()
    assert count == 3
    assert [frame.function for frame in stack] == ["run", "Histogram.observe"]
    assert stack[1].file == "/srv/tsd/metrics.py"
    assert stack[1].line == 9


def test_a_frame_of_no_file_is_kept_by_its_name() -> None:
    ((stack, _),) = parsed([f"{MAIN};<module> 1"]).items()
    assert (stack[0].function, stack[0].file) == ("<module>", "")


def test_what_metrics_call_belongs_to_them() -> None:
    ((stack, _),) = parsed([f"{MAIN};{METRICS};bisect (/lib/bisect.py:1) 1"]).items()
    assert is_extra(stack)


@pytest.mark.parametrize(("number", "expected"), [(1, True), (2, False)])
def test_elsewhere_in_tsd_the_line_decides(tmp_path: Path, number: int, expected: bool) -> None:  # noqa: FBT001
    source = tmp_path / "tsd" / "serving" / "model.py"
    source.parent.mkdir(parents=True)
    source.write_text("self._open[job.id] = job\nsend(job)\n")
    ((stack, _),) = parsed([f"{MAIN};submit ({source}:{number}) 1"]).items()
    assert is_extra(stack) is expected


def test_the_share_is_that_of_the_samples() -> None:
    stacks = parsed([f"{MAIN};{METRICS} 1", f"{MAIN};run (/srv/tsd/http/x.py:1) 3"])
    assert extra_share(stacks) == pytest.approx(0.25)
    assert extra_share(parsed([])) == 0


def test_the_busiest_functions_have_their_own_share_and_that_of_all_they_call() -> None:
    run = "run (/srv/tsd/http/x.py:1)"
    stacks = parsed([f"{MAIN};{run};{METRICS} 3", f"{MAIN};{run} 1"])
    assert busiest(stacks, 2) == [
        ("Histogram.observe (tsd/metrics.py)", 0.75, 0.75),
        ("run (tsd/http/x.py)", 0.25, 1.0),
    ]


def test_memory_is_read_in_megabytes() -> None:
    text = (
        "55d0-7ffd ---p 00000000 00:00 0    [rollup]\n"
        "Rss:     2000 kB\nPss:     1000 kB\nPss_Dirty:  7 kB\n"
        "Private_Clean:  100 kB\nPrivate_Dirty:  400 kB\n"
    )
    held = memory_in(text)
    assert (held.resident, held.shared_out, held.private) == pytest.approx((2.048, 1.024, 0.512))


def test_the_kernel_tells_both_of_a_process_that_lives() -> None:
    held = memory(os.getpid())
    assert 0 < held.private <= held.shared_out <= held.resident
    assert wake_ups(os.getpid()) > 0
