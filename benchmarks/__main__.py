"""`python -m benchmarks`: start everything, ask everybody in turn, report.

Tables go to standard output; results/latest.json has everything, results/*.svg the curves."""

from __future__ import annotations

import contextlib
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import psutil

from benchmarks import plots, report, servers
from benchmarks.daemon import Tsd, tsd, with_access_log
from benchmarks.figures import BRIEF, FULL, figures
from benchmarks.growth import extent_of, growth
from benchmarks.load import check_wrk, cores
from benchmarks.measurement import Ask, Measurement, Target, measure
from benchmarks.plan import Plan, plan_of
from benchmarks.results import Figure, Grown, Results
from benchmarks.workloads import Workload, families
from tsctl.failure import Failure

RESULTS = Path(__file__).parent / "results"
WARM_UP_S = 1


@dataclass(frozen=True)
class Contest:
    """One workload and those who are asked, the yardsticks first."""

    workload: Workload
    body_file: Path
    targets: tuple[Target, ...]

    def ask(self, concurrency: int, seconds: int) -> Ask:
        return Ask(self.workload, self.body_file, concurrency, seconds * self.workload.slowness)

    def warm_up(self, concurrency: int) -> None:
        """Touch all memory that the largest concurrency needs before anything is measured."""
        for target in self.targets:
            measure(target, Ask(self.workload, self.body_file, concurrency, WARM_UP_S))


def main() -> int:
    """Run it; 0 when every request was answered."""
    plan = plan_of(sys.argv[1:])
    begun, date = time.monotonic(), datetime.now(UTC)
    try:
        check_wrk()
        with tempfile.TemporaryDirectory(prefix="tsd-bench-") as folder:
            results = run(plan, Path(folder))
    except Failure as failure:
        complain(failure)
        return 1
    facts: dict[str, object] = {
        "failures": results.failures,
        "date": date.isoformat(timespec="seconds"),
        "command": " ".join(["python -m benchmarks", *sys.argv[1:]]),
        "machine": report.machine(),
        "rounds": plan.rounds,
        "seconds": plan.seconds,
        "placement": placement(),
        "took_s": round(time.monotonic() - begun, 1),
    }
    report.write_file(RESULTS / "latest.json", facts, results)
    print(report.heading(facts), report.tables(results), sep="\n\n")
    for path in plots.draw(results, RESULTS):
        print(f"wrote {path}", file=sys.stderr)
    has_failed = results.failures or any(one.failed for one in results.measurements)
    return 1 if has_failed else 0


def run(plan: Plan, folder: Path) -> Results:
    """Everything that the plan asks for."""
    measurements: list[Measurement] = []
    found: list[Figure] = []
    failures: list[str] = []
    for family in families(list(plan.workloads)):
        own = folder / family[0].group
        own.mkdir()
        with going_on(failures):
            measurements += compete(family, plan, own)
    if plan.has_figures:
        effort = FULL if plan.rounds > 1 else BRIEF
        with going_on(failures):
            found += shown(figures(folder, effort))
    grown: list[Grown] = []
    if plan.has_growth:
        with going_on(failures):
            for one in growth(folder, extent_of(plan.rounds, plan.seconds)):
                show_grown(one)
                grown.append(one)
    return Results(measurements, found, failures, grown)


@contextlib.contextmanager
def going_on(failures: list[str]) -> Iterator[None]:
    """What fails is told and noted; the rest of a long run is not lost with it."""
    try:
        yield
    except Failure as failure:
        complain(failure)
        failures.append(failure.what)
    except (OSError, subprocess.SubprocessError, psutil.Error) as error:
        print(f"bench: {error!r}", file=sys.stderr)
        failures.append(repr(error))


def complain(failure: Failure) -> None:
    print(f"bench: {failure.what}\n  why: {failure.why}\n  fix: {failure.fix}", file=sys.stderr)


def compete(family: list[Workload], plan: Plan, folder: Path) -> Iterator[Measurement]:
    """Ask everybody in turn, so that what disturbs one disturbs the others."""
    with contextlib.ExitStack() as stack:
        contests = list(prepared(family, folder, stack))
        for contest in contests:
            contest.warm_up(max(plan.of(contest.workload), default=1))
        for concurrency in sorted({number for one in family for number in plan.of(one)}):
            asked = [one for one in contests if concurrency in plan.of(one.workload)]
            for number in range(plan.rounds):
                for contest in asked:
                    for target in contest.targets:
                        show(number, one := measure(target, contest.ask(concurrency, plan.seconds)))
                        yield one


def prepared(
    family: list[Workload], folder: Path, stack: contextlib.ExitStack
) -> Iterator[Contest]:
    """The contests of a family, with targets that live until the stack ends."""
    core, _ = cores()
    daemons = [stack.enter_context(tsd(folder / "tsd", core))]
    if any(workload.is_logged for workload in family):
        settings = with_access_log(folder)
        logged = tsd(folder / "tsd-log", core, "tsd+log", settings)
        daemons.append(stack.enter_context(logged))
    bare = {
        name: stack.enter_context(servers.yardstick(name, folder, core))
        for name in sorted({name for one in family for name in one.yardsticks} - {"raw"})
    }
    for workload in family:
        mine = daemons if workload.is_logged else daemons[:1]
        yield contest_of(workload, folder, mine, bare, stack)


def contest_of(
    workload: Workload,
    folder: Path,
    daemons: Sequence[Tsd],
    bare: dict[str, servers.Yardstick],
    stack: contextlib.ExitStack,
) -> Contest:
    """The workload, served by the daemons, and the yardsticks that it names."""
    for daemon in daemons:
        body_file = daemon.serve(workload, folder)
    core, _ = cores()
    yardsticks: list[Target] = [
        bare[name] if name in bare else stack.enter_context(servers.raw(workload, body_file, core))
        for name in workload.yardsticks
    ]
    return Contest(workload, body_file, (*yardsticks, *daemons))


def shown(found: Iterable[Figure]) -> Iterator[Figure]:
    """Each as it comes, for whoever waits."""
    for figure in found:
        print(f"{figure.value:>12,.4g} {figure.unit:2} {figure.about}", file=sys.stderr, flush=True)
        yield figure


def show_grown(one: Grown) -> None:
    """As `shown`."""
    about = f"{one.cpu_us:>9.1f} us CPU, {one.ratio:.2f} of the smallest"
    print(f"growing {one.what:>12} {one.size:>6,} {about}", file=sys.stderr, flush=True)


def placement() -> str:
    """Who runs where, in words."""
    server_core, load_core = cores()
    if server_core is None:
        return "servers and load share all cores"
    return (
        f"servers on core {server_core}, load on core {load_core}, workers of models with work of "
        "their own on any"
    )


def show(number: int, one: Measurement) -> None:
    """Progress, for whoever waits."""
    print(
        f"round {number + 1}  {one.workload:>13} c={one.concurrency:<3} {one.target:>9}"
        f" {one.requests_per_s:>11,.0f}/s {1000 * one.total_cpu_s:>9.1f} us CPU a request",
        file=sys.stderr,
        flush=True,
    )


if __name__ == "__main__":
    sys.exit(main())
