"""`python -m benchmarks.profile WORKLOAD CONNECTIONS`: where daemon and worker spend their time.

py-spy for functions of Python, and perf, where there is one, for the kernel and libraries."""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from benchmarks.daemon import Tsd, tsd
from benchmarks.load import check_wrk, cores
from benchmarks.measurement import Ask, under_load
from benchmarks.sampling import busiest, sample
from benchmarks.workloads import all_workloads
from tsctl.failure import Failure

SHOWN = 25


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.profile", description=__doc__)
    parser.add_argument("workload", choices=all_workloads())
    parser.add_argument("connections", type=int, nargs="?", default=64)
    parser.add_argument("--seconds", type=int, default=5)
    given = parser.parse_args()
    workload = all_workloads()[given.workload]
    try:
        check_wrk()
        with tempfile.TemporaryDirectory(prefix="tsd-profile-") as name:
            folder = Path(name)
            with tsd(folder / "tsd", cores()[0]) as daemon:
                body_file = daemon.serve(workload, folder)
                show(daemon, Ask(workload, body_file, given.connections, given.seconds), folder)
    except Failure as failure:
        print(f"{failure.what}\n  why: {failure.why}\n  fix: {failure.fix}", file=sys.stderr)
        return 1
    return 0


def show(daemon: Tsd, ask: Ask, folder: Path) -> None:
    """Print where the time goes, first the daemon's, then the worker's."""
    pids = {"daemon": daemon.process.pid, "workers": daemon.workers(ask.workload.name)[0]["pid"]}
    for part, pid in pids.items():
        with under_load(daemon, ask) as loaded:
            stacks = sample(pid, ask.seconds, folder)
        cpu_us = 1e6 * loaded.result().cpu_s[part] / 1000
        print(f"\n{part}: {cpu_us:.2f} us CPU a request; main thread: own us, with callees us")
        for name, own, whole in busiest(stacks, SHOWN):
            print(f"{own * cpu_us:8.2f} {whole * cpu_us:8.2f}  {name}")
    if shutil.which("perf"):
        with under_load(daemon, ask):
            print(perf(daemon.process.pid, ask.seconds, folder))


def perf(pid: int, seconds: int, folder: Path) -> str:
    """The busiest functions of the process in machine code, the kernel's among them."""
    data = str(folder / "perf.data")
    record = ["perf", "record", "-q", "-o", data, "-p", str(pid), "--", "sleep", str(seconds)]
    subprocess.run(record, capture_output=True, check=False)
    report = ["perf", "report", "-q", "-i", data, "--stdio", "--sort", "symbol", "-w", "60"]
    done = subprocess.run(report, capture_output=True, text=True, check=False)
    lines = [line for line in done.stdout.splitlines() if line.strip()]
    said = lines[:SHOWN] or [done.stderr.strip() or "perf saw nothing"]
    return "\n".join(["\ndaemon, machine code:", *said])


if __name__ == "__main__":
    sys.exit(main())
