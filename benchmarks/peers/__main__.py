"""`python -m benchmarks.peers`: other servers and tsd, asked the same in turn.

Each workload is asked of all of them, which wait beside each other while one of them works."""

from __future__ import annotations

import argparse
import contextlib
import importlib
import json
import socket
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from benchmarks import report
from benchmarks.load import Outcome, check_wrk, cores
from benchmarks.peers import verdict
from benchmarks.peers.asking import Asked, agrees
from benchmarks.peers.environments import environment
from benchmarks.peers.processes import Server, running
from benchmarks.peers.roster import PEERS, TSD, Peer, Place
from benchmarks.workloads import Workload, all_workloads
from tsctl.failure import Failure, Status

CONCURRENCIES = {"noop": 16, "mlp": 64, "tensor": 16}
RESULTS = Path(__file__).parents[1] / "results" / "peers.json"
CACHE = Path.home() / ".cache" / "tsd-peers"


@dataclass(frozen=True)
class Plan:
    """How much is measured. `batch_size`: what the peers may batch, if not the workload's."""

    peers: tuple[Peer, ...]
    workloads: tuple[Workload, ...]
    rounds: int
    seconds: int
    cache: Path
    batch_size: int | None = None


@dataclass(frozen=True)
class Contestant:
    """A server that runs, and what it is asked."""

    peer: Peer
    server: Server
    asked: Asked
    workload: Workload
    batch_size: int

    def check(self) -> None:
        """Wait for its first answer; Failure unless it says what the handler says."""
        self.server.wait_until(lambda: self.asked.value() is not None)
        value, expected = self.asked.value(), expected_value(self.workload)
        if not agrees(value, expected):
            raise Failure(
                Status.FAILED,
                f"{self.peer.name} answers {self.workload.name} wrongly",
                f"it says {str(value)[:200]}, not {str(expected)[:200]}",
                "its adapter in benchmarks/peers is wrong",
            )

    def load(self, seconds: int) -> Outcome:
        connections = CONCURRENCIES[self.workload.name]
        return self.asked.load(connections, seconds, is_upload=self.workload.is_upload)

    def measure(self, seconds: int) -> verdict.Round:
        """Ask it for so long."""
        name = self.workload.name
        before = self.server.cpu_s()
        outcome = self.load(seconds)
        used_s = self.server.cpu_s() - before
        if not outcome.requests:
            raise Failure(
                Status.FAILED,
                f"{self.peer.name} answered no request of {name} in {seconds} s",
                f"{outcome.failed} failed, the others were still waiting",
                "give it longer with --seconds, or leave it out with --only",
            )
        return verdict.Round(
            workload=name,
            concurrency=CONCURRENCIES[name],
            server=self.peer.name,
            batch_size=self.batch_size,
            requests_per_s=outcome.requests / outcome.seconds,
            p50_ms=outcome.p50_ms,
            p99_ms=outcome.p99_ms,
            cpu_s=1000 * used_s / outcome.requests,
            failed=outcome.failed,
        )


def main() -> int:
    """Run it; 0 when every request was answered."""
    plan = plan_of(sys.argv[1:])
    date = datetime.now(UTC)
    try:
        check_wrk()
        rounds = list(run(plan))
    except Failure as failure:
        print(f"peers: {failure.what}\n  why: {failure.why}\n  fix: {failure.fix}", file=sys.stderr)
        return 1
    write_file(RESULTS, plan, date, rounds)
    command = " ".join(["python -m benchmarks.peers", *sys.argv[1:]])
    print(f"{date.isoformat(timespec='seconds')}, `{command}`", verdict.tables(rounds), sep="\n\n")
    return 1 if any(one.failed for one in rounds) else 0


def plan_of(words: Sequence[str]) -> Plan:
    """What the command line asks for."""
    known = all_workloads()
    parser = argparse.ArgumentParser(prog="python -m benchmarks.peers", description=__doc__)
    parser.add_argument("--rounds", type=int, default=5, help="interleaved rounds (5)")
    parser.add_argument("--seconds", type=int, default=3, help="of each server in a round (3)")
    parser.add_argument("--only", default=",".join(PEERS), help="some of %(default)s")
    parser.add_argument("--workload", default=",".join(CONCURRENCIES), help="some of %(default)s")
    parser.add_argument("--batch", type=int, help="the peers' batch limit, if not the workload's")
    parser.add_argument(
        "--cache", type=Path, default=CACHE, help="their environments (%(default)s)"
    )
    given = parser.parse_args(words)
    peers, workloads = given.only.split(","), given.workload.split(",")
    for name in {*peers} - {*PEERS} | {*workloads} - {*CONCURRENCIES}:
        parser.error(f"there is no peer and no workload {name!r}")
    return Plan(
        tuple(PEERS[name] for name in peers),
        tuple(known[name] for name in workloads),
        given.rounds,
        given.seconds,
        given.cache.absolute(),
        given.batch,
    )


def run(plan: Plan) -> Iterator[verdict.Round]:
    """Every workload: all servers started, each warm, then asked in turn."""
    environments = {peer.name: environment(peer.name, plan.cache) for peer in plan.peers}
    for workload in plan.workloads:
        with contextlib.ExitStack() as stack:
            contestants = [
                stack.enter_context(contestant(peer, workload, plan, environments.get(peer.name)))
                for peer in (TSD, *plan.peers)
            ]
            for one in contestants:
                one.load(one.peer.warm_up_s)
            for number in range(plan.rounds):
                for one in contestants:
                    show(number, measured := one.measure(plan.seconds))
                    yield measured


@contextlib.contextmanager
def contestant(
    peer: Peer, workload: Workload, plan: Plan, installed: Path | None
) -> Iterator[Contestant]:
    """The server with the workload's model, its answers checked."""
    own = plan.batch_size if peer is not TSD else None
    batch_size = own or workload.batch_size
    with tempfile.TemporaryDirectory(prefix=f"tsd-peer-{peer.name}-") as name:
        folder = Path(name)
        place = Place(installed or Path(sys.prefix), free_ports(), folder, workload, batch_size)
        with running(peer.name, peer.start(place), folder, cores()[0]) as server:
            asked = Asked(peer.request(workload), place.ports[0], folder)
            one = Contestant(peer, server, asked, workload, batch_size)
            one.check()
            if workload.is_worker_free:
                server.free_workers()
            yield one


def expected_value(workload: Workload) -> Any:
    """What the handler says, called here."""
    handle = importlib.import_module(f"benchmarks.models.{workload.handler.stem}").handle
    is_json = workload.content_type == "application/json"
    body = json.loads(workload.body) if is_json else bytearray(workload.body)
    return json.loads(handle([{"body": body}], None)[0])


def free_ports() -> tuple[int, int, int]:
    """Three that nobody listens at now."""
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(3)]
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        first, second, third = (each.getsockname()[1] for each in sockets)
        return first, second, third


def write_file(path: Path, plan: Plan, date: datetime, rounds: Sequence[verdict.Round]) -> None:
    """Everything, for whoever compares two runs."""
    content = {
        "date": date.isoformat(timespec="seconds"),
        "machine": report.machine(),
        "rounds": plan.rounds,
        "seconds": plan.seconds,
        "ratios": [
            {"workload": one.workload, "peer": one.peer}
            | {figure.value: ratio for figure, ratio in one.ratios.items()}
            for one in verdict.compare(rounds)
        ],
        "measurements": [asdict(one) for one in rounds],
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content, indent=1) + "\n")


def show(number: int, one: verdict.Round) -> None:
    """Progress, for whoever waits."""
    print(
        f"round {number + 1}  {one.workload:>6} c={one.concurrency:<3} {one.server:>10}"
        f" {one.requests_per_s:>9,.0f}/s {1000 * one.cpu_s:>9.1f} us CPU a request",
        file=sys.stderr,
        flush=True,
    )


if __name__ == "__main__":
    sys.exit(main())
