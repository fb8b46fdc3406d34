"""tsctl bench on a model that batching makes faster: what it finds, and what it leaves behind."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest

from tests.support.archives import make_archive
from tests.support.daemon import RunningDaemon, wait_for
from tests.support.load import echo_load
from tsctl.failure import Status

# A batch takes about as long as one request alone.
SLEEPING = """
    import time

    def handle(data, context):
        if data is None:
            return None
        if any(len(row.get("body")) == len("bad") for row in data):
            raise ValueError("a bad one")
        time.sleep(0.02)
        return [row.get("body") for row in data]
"""
CONFIG = "minWorkers: 1\nmaxWorkers: 2\nbatchSize: 2\n"
QUICK = ("--seconds", "0.1", "--max-workers", "1", "--max-batch-size", "8")
Document = dict[str, Any]


@pytest.fixture
def model(daemon: RunningDaemon, tmp_path: Path) -> RunningDaemon:
    """A daemon with that model, called `echo`."""
    daemon.register(make_archive(tmp_path, handler=SLEEPING, config=CONFIG))
    return daemon


def bench(daemon: RunningDaemon, *words: str) -> subprocess.Popen[str]:
    command = (sys.executable, "-m", "tsctl", "--socket", os.fspath(daemon.control), "bench")
    pipe = subprocess.PIPE
    return subprocess.Popen([*command, "echo", *words], stdout=pipe, stderr=pipe, text=True)


def done(daemon: RunningDaemon, *words: str) -> tuple[int, str, str]:
    process = bench(daemon, *words)
    output, errors = process.communicate(timeout=120)
    return process.returncode, output, errors


def served(daemon: RunningDaemon) -> tuple[int, ...]:
    model = daemon.model("echo")
    names = ("wanted_workers", "batch_size", "min_workers", "max_workers")
    return tuple(model[name] for name in names)


def test_the_batch_size_for_a_latency_is_found_and_the_model_is_left_as_it_was(
    model: RunningDaemon,
) -> None:
    status, output, errors = done(model, "--data", "x", "--latency", "2s", "--json", *QUICK)
    assert status == 0, errors
    document: Document = json.loads(output)
    setting = document["best"]["setting"]
    assert setting["batch_size"] > 2
    assert document["best"]["per_second"] > 2 * rates(document)[1]
    assert document["command"] == f"tsctl scale echo 1 --batch-size {setting['batch_size']}"
    assert document["served_before"] == {"workers": 1, "batch_size": 2}
    assert not document["is_applied"]
    assert served(model) == (1, 2, 1, 2)
    assert "This loads echo in full" in errors


def rates(document: Document) -> dict[int, float]:
    """Batch size -> the most answers per second."""
    found: dict[int, float] = {}
    for point in document["measurements"]:
        size = point["setting"]["batch_size"]
        found[size] = max(found.get(size, 0.0), point["per_second"])
        assert 1 <= point["mean_batch"] <= size
    return found


def test_what_is_found_can_be_set_at_once(model: RunningDaemon) -> None:
    status, output, errors = done(model, "--data", "x", "--apply", *QUICK)
    assert status == 0, errors
    workers, batch_size, _, _ = served(model)
    assert f"Best: 1 worker, batches of up to {batch_size}" in output
    assert "It is set." in output
    assert (workers, batch_size > 2) == (1, True)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_whoever_interrupts_it_finds_the_model_as_it_was(
    model: RunningDaemon, number: signal.Signals
) -> None:
    process = bench(model, "--data", "x", "--max-batch-size", "8")
    wait_for(lambda: served(model)[1] != 2)
    process.send_signal(number)
    _, errors = process.communicate(timeout=120)
    assert process.returncode == Status.INTERRUPTED
    assert "echo is served by 1 worker, batches of up to 2." in errors
    assert served(model) == (1, 2, 1, 2)


def test_a_model_that_serves_others_is_left_alone_unless_forced(model: RunningDaemon) -> None:
    over = threading.Event()

    def others() -> None:
        asyncio.run(echo_load(model.port(), 100_000, 2, is_over=lambda _: over.is_set()))

    thread = threading.Thread(target=others)
    thread.start()
    try:
        wait_for(lambda: model.model("echo")["requests"] > 0)
        status, _, errors = done(model, "--data", "x", *QUICK)
        assert (status, "serves others now" in errors) == (Status.REJECTED, True)
        status, output, errors = done(model, "--data", "x", "--force", *QUICK)
    finally:
        over.set()
        thread.join()
    assert status == 0, errors
    assert "* others asked the model, too" in output
    assert served(model) == (1, 2, 1, 2)


def test_a_latency_that_cannot_be_kept_is_told_with_the_figures(model: RunningDaemon) -> None:
    status, output, errors = done(model, "--data", "x", "--latency", "1ms", "--apply", *QUICK)
    assert (status, "WORKERS" in output) == (Status.FAILED, True)
    assert "no setting keeps p99 within 1 ms" in errors
    assert served(model) == (1, 2, 1, 2)


def test_a_request_that_fails_is_not_measured(model: RunningDaemon) -> None:
    status, output, errors = done(model, "--data", "bad", *QUICK)
    assert (status, output) == (Status.CANNOT_SERVE, "")
    assert "measuring" not in errors
    assert served(model) == (1, 2, 1, 2)


def test_large_bodies_are_sent_piece_by_piece(model: RunningDaemon, tmp_path: Path) -> None:
    body = tmp_path / "body.bin"
    body.write_bytes(bytes(3_000_000))
    words = (os.fspath(body), "--concurrency", "3", "--json", *QUICK)
    status, output, errors = done(model, *words)
    assert status == 0, errors
    assert {point["clients"] for point in json.loads(output)["measurements"]} == {3}


def test_requests_that_a_full_queue_refuses_are_told(daemon: RunningDaemon, tmp_path: Path) -> None:
    daemon.register(make_archive(tmp_path, handler=SLEEPING, config=CONFIG + "jobQueueSize: 2\n"))
    words = ("--data", "x", "--concurrency", "1,20", *QUICK)
    status, output, errors = done(daemon, *words)
    assert status == 0, errors
    assert "! requests were refused" in output
