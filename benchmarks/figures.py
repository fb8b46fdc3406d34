"""What is measured once a run, whatever the load: starts, memory, kills, idleness."""

from __future__ import annotations

import http.client
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from benchmarks.daemon import FREE_PORTS, Tsd, launched, tsd, with_access_log
from benchmarks.load import cores
from benchmarks.measurement import Ask, measure, under_load
from benchmarks.memory import memory, wake_ups
from benchmarks.results import Figure
from benchmarks.sampling import extra_share, sample
from benchmarks.servers import first_line, main_thread_s, python
from benchmarks.workloads import MODELS, Door, all_workloads
from tsctl.commands.pack import PackRequest, pack
from tsctl.failure import Failure, Status

WORKERS = 12
IDLE_WORKERS = 4
SETTLE_S = 2
GIVE_UP_S = 60.0
LARGE_MB = 400.0
ONE_OP = "import torch; (torch.ones(2) + 1).sum()"


@dataclass(frozen=True)
class Effort:
    """How often things are done of which the median counts, and how long others are watched."""

    starts: int
    fresh_starts: int
    kills: int
    idle_s: int
    sampled_s: int


FULL = Effort(starts=9, fresh_starts=5, kills=15, idle_s=10, sampled_s=8)
BRIEF = Effort(starts=3, fresh_starts=1, kills=5, idle_s=5, sampled_s=4)


def figures(folder: Path, effort: Effort) -> Iterator[Figure]:
    """All of them, in turn."""
    for group in (starts, workers, large_model, extras):
        own = folder / group.__name__
        own.mkdir()
        yield from group(own, effort)


def starts(folder: Path, effort: Effort) -> Iterator[Figure]:
    """From the start of the program to the first answer, with every door open."""
    took_s = []
    for number in range(effort.starts):
        own = folder / str(number)
        own.mkdir()
        port = free_port()
        doors = (*FREE_PORTS[1:], f"--http=127.0.0.1:{port}")
        begun = time.monotonic()
        with launched(own, None, doors):
            wait_until(lambda port=port: answers(port))  # type: ignore[misc]
            took_s.append(time.monotonic() - begun)
    yield Figure("accepting_s", median(took_s), "s", "daemon: from exec to its first answer")


def workers(folder: Path, effort: Effort) -> Iterator[Figure]:
    """Small workers: ready, idle, killed."""
    config = folder / "model-config.yaml"
    config.write_text(f"maxWorkers: {WORKERS}\nidempotent: false\n")
    archive = pack(
        PackRequest(
            model_name="one_op",
            handler=str(MODELS / "one_op.py"),
            config_file=config,
            export_path=folder,
        )
    )
    with tsd(folder / "tsd", None) as daemon:
        daemon.register(archive)
        yield from _ready(daemon, effort)
        daemon.scale("one_op", IDLE_WORKERS)
        yield from _idle(daemon, effort)
        daemon.scale("one_op", 1)
        yield from _killed(daemon, effort)


def _ready(daemon: Tsd, effort: Effort) -> Iterator[Figure]:
    for count in range(2, WORKERS + 1):
        daemon.scale("one_op", count)
    ready_ms = median(worker["ready_ms"] for worker in daemon.workers("one_op")[1:])
    fresh_ms = median(1000 * fresh_start_s() for _ in range(effort.fresh_starts))
    yield Figure("worker_ready_ms", ready_ms, "ms", "worker: from the ask to ready, one operator")
    yield Figure("fresh_ms", fresh_ms, "ms", "fresh interpreter: import torch, one operator")
    yield Figure("fresh_ratio", fresh_ms / ready_ms, "", "the second ÷ the first")


def fresh_start_s() -> float:
    """What a worker would take that is not forked."""
    begun = time.monotonic()
    subprocess.run([sys.executable, "-c", ONE_OP], check=True)
    return time.monotonic() - begun


def _idle(daemon: Tsd, effort: Effort) -> Iterator[Figure]:
    time.sleep(SETTLE_S)
    pids = [worker["pid"] for worker in daemon.workers("one_op")]
    parts = {"daemon": daemon.process.pid, "fork server": daemon.fork_server_pid}
    for name, pid in (parts | {"worker": pids[-1]}).items():
        held, key = memory(pid), name.replace(" ", "_")
        yield Figure(f"{key}_rss_mb", held.resident, "MB", f"{name}, idle: resident")
        yield Figure(f"{key}_pss_mb", held.shared_out, "MB", f"{name}, idle: proportional")
        yield Figure(f"{key}_private_mb", held.private, "MB", f"{name}, idle: private")
    everyone = parts | {f"worker {number}": pid for number, pid in enumerate(pids)}
    before = {name: wake_ups(pid) for name, pid in everyone.items()}
    time.sleep(effort.idle_s)
    rates = {name: (wake_ups(pid) - before[name]) / effort.idle_s for name, pid in everyone.items()}
    most = max(rates, key=lambda name: rates[name])
    about = f"idle with {IDLE_WORKERS} workers: wake-ups of"
    yield Figure("daemon_wakeups", rates["daemon"], "/s", f"{about} the daemon")
    yield Figure("idle_wakeups", rates[most], "/s", f"{about} the busiest process")


def _killed(daemon: Tsd, effort: Effort) -> Iterator[Figure]:
    rounds = [_kill(daemon) for _ in range(effort.kills)]
    seen_ms = median(1000 * seen for seen, _ in rounds)
    serving_ms = median(1000 * serving for _, serving in rounds)
    yield Figure("kill_seen_ms", seen_ms, "ms", "worker killed mid-batch: its client is told")
    yield Figure("replacement_ms", serving_ms, "ms", "the same: the next request is answered")


def _kill(daemon: Tsd) -> tuple[float, float]:
    """Seconds from a kill to the answer of the request that ran, and to that of the next one."""
    address = daemon.address(Door.TCP)
    with closing(http.client.HTTPConnection(address)) as running:
        post(running, "one_op", b"10000")
        wait_until(lambda: daemon.workers("one_op")[0]["state"] == "busy")
        pid = daemon.workers("one_op")[0]["pid"]
        killed_at = time.monotonic()
        os.kill(pid, signal.SIGKILL)
        running.getresponse()
        seen_s = time.monotonic() - killed_at
        with closing(http.client.HTTPConnection(address)) as following:
            post(following, "one_op", b"0")
            is_answered = following.getresponse().status == 200
            serving_s = time.monotonic() - killed_at
    if not is_answered:
        raise Failure(Status.FAILED, "no replacement served", "a 503 came", "see the daemon's log")
    return seen_s, serving_s


def large_model(folder: Path, _effort: Effort) -> Iterator[Figure]:
    """Three workers of one large model: how much of it they share."""
    make = "import sys, torch; from benchmarks.models.large import Large; "
    save = "torch.save(Large().state_dict(), sys.argv[1])"
    subprocess.run([sys.executable, "-c", make + save, str(folder / "large.pt")], check=True)
    archive = pack(
        PackRequest(
            model_name="large",
            handler=str(MODELS / "large_handler.py"),
            model_file=MODELS / "large.py",
            serialized_file=folder / "large.pt",
            export_path=folder,
            archive_format="no-archive",
        )
    )
    with tsd(folder / "tsd", None) as daemon:
        daemon.register(archive, workers=3)
        wait_until(lambda: have_all_answered(daemon))
        pids = [daemon.fork_server_pid, *(one["pid"] for one in daemon.workers("large"))]
        held = sum(memory(pid).shared_out for pid in pids)
    with python(["-c", f"{ONE_OP}; print('ready', flush=True); input()"], None) as process:
        first_line(process, "torch")
        alone = memory(process.pid).shared_out
    yield Figure("torch_mb", alone, "MB", "one process with torch, proportional")
    yield Figure("large_mb", held, "MB", "fork server and 3 workers of a 400 MB model")
    yield Figure("shared_ratio", held / (LARGE_MB + alone), "", "that ÷ (400 MB + one with torch)")


def have_all_answered(daemon: Tsd) -> bool:
    """Ask three times at once; whether every worker has had a batch by now."""

    def ask(_number: int) -> None:
        with closing(http.client.HTTPConnection(daemon.address(Door.TCP))) as client:
            post(client, "large", b"1")
            client.getresponse()

    with ThreadPoolExecutor(3) as threads:
        list(threads.map(ask, range(3)))
    return all(worker["batches"] for worker in daemon.workers("large"))


def extras(folder: Path, effort: Effort) -> Iterator[Figure]:
    """Logs, metrics and deadlines of a no-op request at c 64, in the daemon as it runs.

    That is the time of its other threads, which write TorchServe's log files, and the part of the
    main thread's time that samples of its stack find in such code (see sampling.py)."""
    core, load_core = cores()
    workload = all_workloads()["noop"]
    with tsd(folder / "tsd", core, settings=with_access_log(folder)) as daemon:
        body_file = daemon.serve(workload, folder)
        if load_core is not None:
            # Where daemon and worker take turns, a sample cannot tell who of them runs.
            daemon.place_workers(workload.name, [load_core])
        ask = Ask(workload, body_file, 64, effort.sampled_s)
        main_before = main_thread_s(daemon.process)
        measured = measure(daemon, ask)
        main_us = 1e6 * (main_thread_s(daemon.process) - main_before) / measured.requests
        with under_load(daemon, ask):
            share = extra_share(sample(daemon.process.pid, effort.sampled_s, folder))
    others_us = 1000 * measured.cpu_s["daemon"] - main_us
    about = "no-op, c 64: CPU of a request for"
    yield Figure("log_thread_us", others_us, "us", f"{about} the access log's thread")
    yield Figure(
        "extras_main_us", share * main_us, "us", f"{about} logs, metrics, deadlines beside"
    )
    yield Figure("extras_us", share * main_us + others_us, "us", f"{about} both")


def post(client: http.client.HTTPConnection, model: str, body: bytes) -> None:
    headers = {"Content-Type": "application/octet-stream"}
    client.request("POST", f"/predictions/{model}", body, headers)


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return int(probe.getsockname()[1])


def answers(port: int) -> bool:
    """Whether the daemon that was given this port answers there."""
    with closing(http.client.HTTPConnection("127.0.0.1", port)) as client:
        try:
            client.request("GET", "/ping")
            return client.getresponse().status == 200
        except OSError:
            time.sleep(0.001)
            return False


def wait_until(holds: Callable[[], bool]) -> None:
    """Ask again and again: each question is a round trip."""
    give_up_at = time.monotonic() + GIVE_UP_S
    while not holds():
        if time.monotonic() > give_up_at:
            raise Failure(
                Status.FAILED, f"nothing came in {GIVE_UP_S:g} s", "", "see the daemon's log"
            )
