"""Batches that are launched before the last one is answered, with a real channel and no GPU."""

from __future__ import annotations

import struct
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.support.archives import make_archive
from tests.support.daemon import RunningDaemon

# A processor computes when it is told to, so that what overlaps is only the way there and back.
AHEAD = """
from tsd.worker import tensor_handler
class Handler(tensor_handler.TensorHandler):
    def initialize(self, context):
        self.model = lambda rows: rows * 2
        self.context = context
        context.launching = self
"""
# Its first answer is given when it has begun with the second batch, or after a while.
SLOW = """
import os
from types import SimpleNamespace
from tsd.worker import passes, tensor_handler
def model(rows):
    if (rows == 13).any():
        os._exit(1)
    return rows * 2
def mark():
    asked = iter(range(500))
    return SimpleNamespace(query=lambda: next(asked, None) is None, synchronize=lambda: None)
class Handler(tensor_handler.TensorHandler):
    def initialize(self, context):
        self.model, context.launching = model, self
        self.passes.mark = mark
"""
# Only who has a GPU says this; the page shows it as it was said.
MEMORY = """
from tsd.worker.gpu import GpuMemory
def handle(data, context):
    if data is None:
        return None
    context.part_sender._outbox.send_memory(GpuMemory(1000, 3000))
    return [row["body"] for row in data]
"""
FLOATS = {"Content-Type": "application/octet-stream"}


@pytest.mark.parametrize("count", [2, 40_000])
def test_every_request_gets_its_own_answer(
    daemon: RunningDaemon, tmp_path: Path, count: int
) -> None:
    settings = "minWorkers: 1\nmaxWorkers: 1\nbatchSize: 4\nbodyViews: true\n"
    daemon.register(make_archive(tmp_path, "ahead", AHEAD, settings))

    def ask(number: int) -> tuple[int, list[float]]:
        body = struct.pack(f"<{count}f", number, *[0] * (count - 1))
        answer = daemon.call("POST", "/predictions/ahead", body, FLOATS)
        return answer.status, answer.json()

    with ThreadPoolExecutor(16) as pool:
        answers = list(pool.map(ask, range(200 if count == 2 else 24)))
    assert all(status == 200 and len(row) == count for status, row in answers)
    assert [row[0] for _, row in answers] == [2.0 * number for number in range(len(answers))]
    refused = daemon.call("POST", "/predictions/ahead", b"abc", FLOATS)
    assert refused.status == 400


def test_who_ends_the_worker_beside_others_ends_nobody_elses_request(
    daemon: RunningDaemon, tmp_path: Path
) -> None:
    settings = "minWorkers: 1\nmaxWorkers: 1\nbatchSize: 2\n"
    daemon.register(make_archive(tmp_path, "slow", SLOW, settings))

    def ask(number: int) -> int:
        body = struct.pack("<2f", number, 0)
        return daemon.call("POST", "/predictions/slow", body, FLOATS).status

    with ThreadPoolExecutor(24) as pool:
        statuses = dict(zip(range(24), pool.map(ask, range(24)), strict=True))
    assert {number for number, status in statuses.items() if status != 200} == {13}


def test_a_workers_gpu_memory_is_on_the_page(daemon: RunningDaemon, tmp_path: Path) -> None:
    daemon.register(make_archive(tmp_path, "held", MEMORY), initial_workers=1)
    assert b"tsd_gpu_bytes{" not in daemon.call("GET", "/metrics").body
    daemon.call("POST", "/predictions/held", b"x", FLOATS)
    page = daemon.call("GET", "/metrics").body.decode()
    place = ('model="held"', 'version="1.0"', 'worker="1"', 'device="cpu"')
    held = {
        line.rpartition(" ")[2]
        for line in page.splitlines()
        if line.startswith("tsd_gpu_bytes{") and all(part in line for part in place)
    }
    assert held == {"1000.0", "3000.0"}
