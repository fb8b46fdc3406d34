"""What a request costs while something grows: models, connections, bodies, the queue.

The sizes of one thing are asked in turn, round by round, and each is compared with the smallest:
no step of the daemon may grow with what it has to hold beside the request."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import median

from benchmarks.daemon import Tsd, tsd
from benchmarks.load import cores
from benchmarks.measurement import Ask, measure
from benchmarks.results import Grown
from benchmarks.servers import Yardstick, first_line, python, yardstick
from benchmarks.workloads import MIB, Door, Workload, all_workloads, pack_archive
from tsctl.failure import Failure, Status

BUSY = 64
# As many requests of a connection are read ahead by default.
PIPELINED = 32
WARM_UP_S = 1


@dataclass(frozen=True)
class Extent:
    """How far things grow, the smallest size first, and how often each size is asked."""

    models: tuple[int, ...] = (1, 10, 100, 1_000)
    connections: tuple[int, ...] = (0, 100, 1_000, 10_000)
    mebibytes: tuple[int, ...] = (1, 4, 16, 64, 256)
    waiting: tuple[int, ...] = (100, 1_000, 10_000)
    rounds: int = 5
    seconds: int = 2


def extent_of(rounds: int, seconds: int) -> Extent:
    """As far as a whole run goes; not so far when there is one round only."""
    if rounds > 1:
        return Extent(rounds=rounds, seconds=seconds)
    return Extent((1, 100), (0, 1_000), (1, 16), (100, 1_000), rounds, seconds)


@dataclass(frozen=True)
class Cell:
    """One size. What is compared is the CPU time of one of a request's equal parts."""

    what: str
    size: int
    target: Tsd | Yardstick
    ask: Ask
    parts: int = 1


Costs = dict[tuple[str, int], float]
"""One round's: microseconds by what grows and its size."""


def growth(folder: Path, extent: Extent) -> Iterator[Grown]:
    """Everything that grows, in turn."""
    for group in (models, connections, bodies, waiting):
        own = folder / f"growing-{group.__name__}"
        own.mkdir()
        with contextlib.ExitStack() as stack:
            cells = list(group(own, extent, stack))
            yield from grown(asked(cells, extent.rounds))


def asked(cells: Sequence[Cell], rounds: int) -> list[Costs]:
    """What each size costs, round by round."""
    for cell in cells:
        measure(cell.target, replace(cell.ask, seconds=WARM_UP_S))
    return [{(cell.what, cell.size): cost_us(cell) for cell in cells} for _ in range(rounds)]


def cost_us(cell: Cell) -> float:
    """CPU time of one part of a request; Failure where one was not answered."""
    one = measure(cell.target, cell.ask)
    if one.failed:
        about = f"{one.failed} requests failed: {one.workload}, {one.concurrency} connections"
        raise Failure(Status.FAILED, about, "", "see the daemon's log")
    return 1000 * one.total_cpu_s / cell.parts


def grown(rounds: Sequence[Costs]) -> Iterator[Grown]:
    """The medians: of the costs, and of the rounds' ratios to the smallest size."""
    for what, size in rounds[0]:
        smallest = min(other for name, other in rounds[0] if name == what)
        ratio = median(costs[what, size] / costs[what, smallest] for costs in rounds)
        yield Grown(what, size, median(costs[what, size] for costs in rounds), ratio)


def models(folder: Path, extent: Extent, stack: contextlib.ExitStack) -> Iterator[Cell]:
    """So many are registered; one of them has a worker, and is used."""
    workload = all_workloads()["noop"]
    archive = pack_archive(replace(workload, workers=0), folder)
    for size in extent.models:
        daemon = stack.enter_context(tsd(folder / str(size), cores()[0]))
        for number in range(1, size):
            daemon.register(archive, workers=0, name=f"resting-{number}")
        yield Cell("models", size, daemon, served(workload, daemon, BUSY, extent))


def connections(folder: Path, extent: Extent, stack: contextlib.ExitStack) -> Iterator[Cell]:
    """So many are open and idle, beside 64 that ask."""
    workload = all_workloads()["noop"]
    most = max(extent.connections) + 2 * BUSY
    settings = f"[http]\nmax_connections = {most}\nkeep_alive_s = 3600\n"
    for size in extent.connections:
        daemon = stack.enter_context(tsd(folder / str(size), cores()[0], settings=settings))
        words = ["-m", "benchmarks.held", daemon.address(Door.TCP), str(size)]
        holder = stack.enter_context(python(words, cores()[1]))
        first_line(holder, "held")
        yield Cell("idle connections", size, daemon, served(workload, daemon, BUSY, extent))


def bodies(folder: Path, extent: Extent, stack: contextlib.ExitStack) -> Iterator[Cell]:
    """They are so many MiB long; each MiB is a part, for who only receives it, too."""
    most = max(extent.mebibytes) * MIB
    settings = f"[http]\nmax_request_bytes = {most}\n[serving]\narena_bytes = {2 * most}\n"
    daemon = stack.enter_context(tsd(folder / "tsd", cores()[0], settings=settings))
    bare = stack.enter_context(yardstick("recv", folder, cores()[0]))
    upload = all_workloads()["length4-tcp"]
    for size in extent.mebibytes:
        workload = replace(upload, name=f"length{size}", body=bytes(size * MIB), takes_views=True)
        ask = served(workload, daemon, 1, extent)
        yield Cell("MiB of a body", size, daemon, ask, parts=size)
        yield Cell("the same, recv loop", size, bare, ask, parts=size)


def waiting(folder: Path, extent: Extent, stack: contextlib.ExitStack) -> Iterator[Cell]:
    """So many jobs wait for a worker that takes its time, and their queue is full."""
    daemon = stack.enter_context(tsd(folder / "tsd", cores()[0]))
    noop = all_workloads()["noop"]
    for size in extent.waiting:
        # Two batches more are the worker's: one runs, one is at its door.
        jobs = size + 2 * noop.batch_size
        workload = replace(noop, name=f"waits{size}", handler_name="waits", queue_size=jobs)
        clients = jobs // PIPELINED
        ask = replace(served(workload, daemon, clients, extent), pipelined=PIPELINED)
        yield Cell("waiting jobs", size, daemon, ask)


def served(workload: Workload, daemon: Tsd, concurrency: int, extent: Extent) -> Ask:
    """How the workload's model is asked, which is served from now on."""
    return Ask(workload, daemon.serve(workload, daemon.folder), concurrency, extent.seconds)
