"""Workers as processes: there at once, small, sharing weights, on processors of their own."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from tests.support.archives import make_archive
from tests.support.daemon import RunningDaemon, running, wait_for

READY_MS, REPLACED_S = 25.0, 0.060
PRIVATE_KB = 8 * 1024
WEIGHTS_KB = 64 * 1024

# One operator has run when it is ready.
SMALL = """
    import os
    import torch

    model = torch.nn.Linear(8, 8)
    model(torch.zeros(1, 8))

    def handle(data, context):
        if data is None:
            return None
        return [f"{torch.get_num_threads()} {sorted(os.sched_getaffinity(0))}" for _ in data]
"""


@pytest.fixture
def daemon(tmp_path: Path) -> Iterator[RunningDaemon]:
    with running(tmp_path) as one:
        one.register(make_archive(tmp_path, "small", SMALL), synchronous="true", initial_workers=1)
        yield one


def scale(daemon: RunningDaemon, workers: int, name: str = "small") -> None:
    asked = f"min_worker={workers}&max_worker={workers}&synchronous=true"
    assert daemon.call("PUT", f"/models/{name}?{asked}").status == 200


def children(daemon: RunningDaemon, title: str) -> list[int]:
    """The daemon's processes of that title."""
    pids = map(int, Path(f"/proc/{daemon.pid}/task/{daemon.pid}/children").read_text().split())
    return [pid for pid in pids if title_of(pid).startswith(title)]


def title_of(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_text().rstrip("\0")
    except OSError:
        return ""


def spares(daemon: RunningDaemon) -> list[int]:
    return children(daemon, "tsd spare worker")


def private_kb(pid: int) -> int:
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    return sum(int(line.split()[1]) for line in lines if line.startswith("Private_Dirty"))


def test_the_next_worker_is_forked_before_it_is_needed(daemon: RunningDaemon) -> None:
    wait_for(lambda: bool(spares(daemon)))
    [spare] = spares(daemon)
    scale(daemon, 2)
    assert daemon.worker_pids("small")[1] == spare
    wait_for(lambda: bool(spares(daemon)))
    assert spares(daemon) != [spare]


def test_a_spare_that_was_killed_is_not_missed(daemon: RunningDaemon) -> None:
    wait_for(lambda: bool(spares(daemon)))
    os.kill(spares(daemon)[0], signal.SIGKILL)
    scale(daemon, 2)
    assert len(daemon.worker_pids("small")) == 2


def test_a_spare_ends_with_its_fork_server_and_workers_go_on(daemon: RunningDaemon) -> None:
    wait_for(lambda: bool(spares(daemon)))
    [spare], [fork_server] = spares(daemon), children(daemon, "tsd fork server")
    os.kill(fork_server, signal.SIGKILL)
    wait_for(lambda: spare not in spares(daemon))
    assert len(daemon.worker_pids("small")) == 1


def test_a_worker_is_ready_after_one_operator_in_the_time_that_is_promised(
    daemon: RunningDaemon,
) -> None:
    # Again, until nothing else keeps the machine busy.
    wait_for(lambda: ready_ms(daemon) <= READY_MS)


def ready_ms(daemon: RunningDaemon) -> float:
    """How long a second worker takes."""
    wait_for(lambda: bool(spares(daemon)))
    scale(daemon, 2)
    took = float(daemon.model("small")["workers"][1]["ready_ms"])
    scale(daemon, 1)
    return took


def test_a_dead_worker_is_replaced_in_the_time_that_is_promised(daemon: RunningDaemon) -> None:
    wait_for(lambda: replaced_s(daemon) <= REPLACED_S)


def replaced_s(daemon: RunningDaemon) -> float:
    """From a kill to the answer of the next worker."""
    http = daemon.runtime_dir / "http.sock"
    wait_for(lambda: bool(spares(daemon)))
    [pid] = daemon.worker_pids("small")
    began_at = time.monotonic()
    os.kill(pid, signal.SIGKILL)
    assert daemon.call("POST", "/predictions/small", b"x", door=http).status == 200
    return time.monotonic() - began_at


def test_one_more_idle_worker_has_little_memory_of_its_own(daemon: RunningDaemon) -> None:
    scale(daemon, 3)
    assert max(map(private_kb, daemon.worker_pids("small"))) <= PRIVATE_KB


@pytest.mark.filterwarnings("ignore:`torch.jit:DeprecationWarning")
def test_workers_share_the_weights_of_a_torchscript_file(
    daemon: RunningDaemon, tmp_path: Path
) -> None:
    # Many small ones: what torch has copied them from must be given back, too.
    layers = [torch.nn.Linear(256, 256) for _ in range(WEIGHTS_KB // 257)]
    file = tmp_path / "large.pt"
    torch.jit.script(torch.nn.Sequential(*layers)).save(str(file))  # type: ignore[no-untyped-call]
    os.sync()
    daemon.register(file, model_name="large", synchronous="true", initial_workers=2)
    body = b"[" + b",".join([b"0.5"] * 256) + b"]"
    http = daemon.runtime_dir / "http.sock"
    json = {"Content-Type": "application/json"}
    answer = daemon.call("POST", "/predictions/large", body, json, door=http)
    expected = torch.nn.Sequential(*layers)(torch.full((1, 256), 0.5))
    assert torch.allclose(torch.tensor(answer.json()), expected[0], atol=1e-4)
    assert max(map(private_kb, daemon.worker_pids("large"))) < WEIGHTS_KB / 2


def test_pinned_workers_share_the_processors(tmp_path: Path) -> None:
    own = {"TSD_SERVING_PIN_WORKERS": "true", "TSD_SERVING_THREADS": "auto"}
    usable = sorted(os.sched_getaffinity(0))
    with running(tmp_path, environment=own) as one:
        count = f"minWorkers: {len(usable)}\nmaxWorkers: {len(usable)}\n"
        one.register(make_archive(tmp_path, "small", SMALL, count), synchronous="true")
        http = one.runtime_dir / "http.sock"
        said = one.call("POST", "/predictions/small", b"x", door=http).body.decode()
        allowed = {tuple(os.sched_getaffinity(pid)) for pid in one.worker_pids("small")}
    assert allowed == {(number,) for number in usable}
    assert said in [f"1 [{number}]" for number in usable]
