"""The load: wrk for small requests, upload.py for large ones, grpc_load.py for gRPC; and what
they report."""

from __future__ import annotations

import json
import math
import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tsctl.failure import Failure, Status

SCRIPT = Path(__file__).with_name("post.lua")
# Beyond the seconds of the load itself: to connect, and to wait for the last answers.
GRACE_S = 60


@dataclass(frozen=True)
class Load:
    """The same request over and over: to whom, on how many connections, how long.

    `url` is `http://HOST:PORT/PATH`, `unix:SOCKET:/PATH`, or for gRPC `HOST:PORT/MODEL`."""

    url: str
    body_file: Path
    content_type: str
    connections: int
    seconds: int
    # So many requests of a connection are on their way at once.
    pipelined: int = 1


@dataclass(frozen=True)
class Outcome:
    """What the load's program counted."""

    requests: int
    seconds: float
    p50_ms: float
    p99_ms: float
    failed: int
    note: str = ""
    p999_ms: float = math.nan


def check_wrk() -> None:
    """Failure when wrk is not installed."""
    if shutil.which("wrk") is None:
        raise Failure(
            Status.FAILED,
            "the bench needs wrk, which is not installed",
            "wrk makes the load: nothing in Python is fast enough to measure these servers",
            "apt-get install wrk",
        )


def run_wrk(load: Load, core: int | None) -> Outcome:
    return _run(wrk_command(load), core)


def run_uploads(load: Load, core: int | None) -> Outcome:
    return _run(upload_command(load), core)


def run_grpc(load: Load, core: int | None) -> Outcome:
    return _run(grpc_command(load), core)


def wrk_command(load: Load) -> list[str]:
    return [
        *("wrk", "-t1", f"-c{load.connections}", f"-d{load.seconds}s", "-s", str(SCRIPT)),
        *("--timeout", f"{GRACE_S}s", load.url),
        *("--", str(load.body_file), load.content_type, str(load.pipelined)),
    ]


def upload_command(load: Load) -> list[str]:
    return [
        *(sys.executable, "-m", "benchmarks.upload", load.url, str(load.body_file)),
        *(load.content_type, str(load.connections), str(load.seconds)),
    ]


def grpc_command(load: Load) -> list[str]:
    return [
        *(sys.executable, "-m", "benchmarks.grpc_load", load.url, str(load.body_file)),
        *(str(load.connections), str(load.seconds)),
    ]


def pinned(command: Sequence[str], core: int | None) -> list[str]:
    """The command on one core; as it is when there is no core to spare."""
    return list(command) if core is None else ["taskset", "-c", str(core), *command]


def cores() -> tuple[int | None, int | None]:
    """The core of the servers and the core of the load; None on a machine with one."""
    mine = sorted(os.sched_getaffinity(0))
    if len(mine) < 2 or shutil.which("taskset") is None:
        return None, None
    return mine[0], mine[1]


def parse(output: str) -> Outcome:
    """The figures in the last line; ValueError when it holds none."""
    lines = output.strip().splitlines()
    figures = json.loads(lines[-1]) if lines else None
    if not isinstance(figures, dict):
        raise ValueError(f"no figures in: {output[-200:]!r}")
    return Outcome(
        requests=figures["requests"],
        seconds=figures["duration_us"] / 1e6,
        p50_ms=figures["p50_us"] / 1e3,
        p99_ms=figures["p99_us"] / 1e3,
        failed=figures["failed"],
        note=figures.get("note", ""),
        p999_ms=figures.get("p999_us", math.nan) / 1e3,
    )


def quantile(ascending: Sequence[float], share: float) -> float:
    """The smallest value that a share of all do not exceed; NaN when there are none."""
    if not ascending:
        return math.nan
    return ascending[max(0, math.ceil(share * len(ascending)) - 1)]


def summary(took_us: Sequence[float], duration_us: float, failed: int) -> dict[str, float]:
    """The figures of a load made here, in the words that `parse` reads."""
    ascending = sorted(took_us)
    return {
        "requests": len(ascending),
        "duration_us": duration_us,
        "p50_us": quantile(ascending, 0.5),
        "p99_us": quantile(ascending, 0.99),
        "p999_us": quantile(ascending, 0.999),
        "failed": failed,
    }


def _run(command: list[str], core: int | None) -> Outcome:
    done = subprocess.run(
        pinned(command, core), capture_output=True, text=True, timeout=GRACE_S * 2, check=False
    )
    if done.returncode:
        raise Failure(
            Status.FAILED,
            f"the load did not run: {' '.join(command[:3])} ended with {done.returncode}",
            (done.stderr or done.stdout).strip()[-500:],
            "see that the server it was sent to still runs",
        )
    return parse(done.stdout)
