"""`python -m benchmarks`: start everything, ask everybody in turn, report."""

from __future__ import annotations

import argparse
import contextlib
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from benchmarks import report, servers
from benchmarks.load import check_wrk, cores
from benchmarks.measurement import Ask, Measurement, Target, measure
from benchmarks.workloads import Workload, all_workloads, pack_archive
from tsctl.failure import Failure

CONCURRENCIES = (1, 16, 64)
RESULTS = Path(__file__).parent / "results" / "latest.json"
WARM_UP_S = 1


@dataclass(frozen=True)
class Plan:
    """How much is measured."""

    workloads: tuple[Workload, ...]
    rounds: int
    seconds: int


@dataclass(frozen=True)
class Contest:
    """One workload and those who are asked, the yardsticks first."""

    workload: Workload
    body_file: Path
    targets: tuple[Target, ...]

    def ask(self, concurrency: int, seconds: int) -> Ask:
        return Ask(self.workload, self.body_file, concurrency, seconds)


def main() -> int:
    """Run it; 0 when every request was answered."""
    plan = plan_of(sys.argv[1:])
    begun, date = time.monotonic(), datetime.now(UTC)
    try:
        check_wrk()
        with tempfile.TemporaryDirectory(prefix="tsd-bench-") as folder:
            measurements = list(run(plan, Path(folder)))
    except Failure as failure:
        print(f"bench: {failure.what}\n  why: {failure.why}\n  fix: {failure.fix}", file=sys.stderr)
        return 1
    facts: dict[str, object] = {
        "date": date.isoformat(timespec="seconds"),
        "command": " ".join(["python -m benchmarks", *sys.argv[1:]]),
        "machine": report.machine(),
        "rounds": plan.rounds,
        "seconds": plan.seconds,
        "placement": placement(),
        "took_s": round(time.monotonic() - begun, 1),
    }
    report.write_file(RESULTS, facts, measurements)
    print(heading(facts), report.table(measurements), sep="\n\n")
    return 1 if any(one.failed for one in measurements) else 0


def plan_of(words: Sequence[str]) -> Plan:
    """What the command line asks for."""
    known = all_workloads()
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="1 round of 1 s instead of 5 of 2 s")
    parser.add_argument("--only", choices=known, metavar="WORKLOAD", help=", ".join(known))
    given = parser.parse_args(words)
    chosen = (known[given.only],) if given.only else tuple(known.values())
    return Plan(chosen, *((1, 1) if given.quick else (5, 2)))


def run(plan: Plan, folder: Path) -> Iterator[Measurement]:
    """Ask everybody in turn, so that what disturbs one disturbs the others."""
    with contextlib.ExitStack() as stack:
        for contest in contests(plan, folder, stack):
            # All memory that the largest concurrency needs is touched before it is measured.
            for target in contest.targets:
                measure(target, contest.ask(max(CONCURRENCIES), WARM_UP_S))
            for concurrency in CONCURRENCIES:
                ask = contest.ask(concurrency, plan.seconds)
                for number in range(plan.rounds):
                    for target in contest.targets:
                        show(number, one := measure(target, ask))
                        yield one


def contests(plan: Plan, folder: Path, stack: contextlib.ExitStack) -> Iterator[Contest]:
    """Every workload with its targets, which live until the stack ends."""
    core, _ = cores()
    daemon = stack.enter_context(servers.tsd(folder, core))
    bare = {
        name: stack.enter_context(servers.yardstick(name, module, core))
        for name, module in (("floor", "benchmarks.floor"), ("recv", "benchmarks.recv_loop"))
    }
    for workload in plan.workloads:
        body_file = folder / f"{workload.name}.body"
        body_file.write_bytes(workload.body)
        daemon.register(workload, pack_archive(workload, folder))
        yardsticks: list[Target] = [
            bare[name]
            if name in bare
            else stack.enter_context(servers.raw(workload, body_file, core))
            for name in workload.yardsticks
        ]
        yield Contest(workload, body_file, (*yardsticks, daemon))


def placement() -> str:
    """Who runs where, in words."""
    server_core, load_core = cores()
    if server_core is None:
        return "servers and load share all cores"
    return f"servers on core {server_core}, load on core {load_core}, the mlp worker on any"


def heading(facts: dict[str, object]) -> str:
    """Date, command and machine: a figure means nothing without them."""
    machine = facts["machine"]
    assert isinstance(machine, dict)
    versions = ", ".join(f"{name} {value}" for name, value in machine.items())
    rounds = f"{facts['rounds']} interleaved rounds of {facts['seconds']} s a cell"
    return f"{facts['date']}, `{facts['command']}`, {rounds}\n{versions}; {facts['placement']}"


def show(number: int, one: Measurement) -> None:
    """Progress, for whoever waits."""
    print(
        f"round {number + 1}  {one.workload:>6} c={one.concurrency:<3} {one.target:>5}"
        f" {one.requests_per_s:>11,.0f}/s {1000 * one.total_cpu_s:>9.1f} us CPU a request",
        file=sys.stderr,
        flush=True,
    )


if __name__ == "__main__":
    sys.exit(main())
