"""Workers of several processes: parallelType, as torchrun starts them, on the CPU with gloo."""

from __future__ import annotations

import asyncio
import json
import os
import signal
from pathlib import Path
from typing import Any

import pytest

from tests.support.archives import make_archive
from tests.support.daemon import RunningDaemon, wait_for
from tests.support.load import Client

CONFIG = """
    minWorkers: 1
    maxWorkers: 1
    batchSize: {rows}
    responseTimeout: {response_s}
    parallelType: tp
    torchrun:
        nproc-per-node: {ranks}
"""

USUAL = {"ranks": 2, "rows": 1, "response_s": 60}

# Each rank holds its part of the columns of one linear layer; the sum of the parts is the whole.
LINEAR = """
    import json, torch
    import torch.distributed as dist

    class Handler:
        def initialize(self, context):
            dist.init_process_group("gloo")
            self.rank, self.ranks = dist.get_rank(), dist.get_world_size()
            whole = torch.arange(32.0).reshape(4, 8)
            part = 8 // self.ranks
            self.mine = slice(self.rank * part, (self.rank + 1) * part)
            self.weight = whole[:, self.mine]
            met = torch.tensor([1.0])
            dist.all_reduce(met)
            assert met.item() == self.ranks

        def handle(self, data, context):
            x = torch.tensor([json.loads(bytes(row["body"])) for row in data]).float()
            y = x[:, self.mine] @ self.weight.T
            dist.all_reduce(y)
            drawn = torch.rand(1)
            most = drawn.clone()
            dist.all_reduce(most, op=dist.ReduceOp.MAX)
            return [
                {"y": row.tolist(), "rank": self.rank, "same": bool(most == drawn)} for row in y
            ]
"""


def register(
    daemon: RunningDaemon,
    folder: Path,
    name: str,
    handler: str,
    **settings: int,
) -> None:
    config = CONFIG.format(**USUAL | settings)
    daemon.register(make_archive(folder, name, handler, config))


def predict(daemon: RunningDaemon, name: str, body: object) -> Any:
    answer = daemon.call("POST", f"/predictions/{name}", json.dumps(body).encode())
    assert answer.status == 200, answer.body
    return answer.json()


def processes(daemon: RunningDaemon, name: str) -> dict[int, int]:
    """The living processes of a model's workers: rank by process id."""
    found = {}
    for pid in filter(str.isdigit, os.listdir("/proc")):  # noqa: PTH208 (names are numbers here)
        try:
            title = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")[0].decode()
            parent = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1]
        except OSError:
            continue
        if int(parent) == daemon.pid and title.startswith(f"tsd worker: {name}/"):
            found[int(pid)] = int(title.partition(" rank ")[2].split()[0])
    return found


@pytest.mark.parametrize("ranks", [1, 2, 4])
def test_a_layer_split_over_ranks_answers_as_the_whole_one(
    daemon: RunningDaemon, tmp_path: Path, ranks: int
) -> None:
    register(daemon, tmp_path, "linear", LINEAR, ranks=ranks)
    x = [1, 2, 3, 4, 5, 6, 7, 8]
    whole = [sum((8 * row + column) * x[column] for column in range(8)) for row in range(4)]
    for _ in range(3):
        assert predict(daemon, "linear", x) == {"y": whole, "rank": 0, "same": True}
    assert sorted(processes(daemon, "linear").values()) == list(range(ranks))
    described = daemon.call("GET", "/models/linear").json()[0]
    assert (described["parallelType"], described["parallelLevel"]) == ("tp", ranks)
    assert [worker["status"] for worker in described["workers"]] == ["READY"]
    assert len(daemon.worker_pids("linear")) == 1


def test_a_group_is_scaled_as_one_worker_and_leaves_no_process(
    daemon: RunningDaemon, tmp_path: Path
) -> None:
    register(daemon, tmp_path, "linear", LINEAR, rows=4)
    for wanted in (2, 0, 1):
        path = f"/models/linear?min_worker={wanted}&max_worker={wanted}&synchronous=true"
        assert daemon.call("PUT", path).status == 200
        wait_for(lambda: len(processes(daemon, "linear")) == 2 * wanted)  # noqa: B023
        assert len(daemon.worker_pids("linear")) == wanted
    assert predict(daemon, "linear", [1] * 8)["rank"] == 0
    assert daemon.model("linear")["restarts"] == 0
    assert daemon.call("DELETE", "/models/linear").status == 200
    assert processes(daemon, "linear") == {}


def test_each_rank_sees_what_torchrun_gives_and_no_rank_listens_beyond_this_machine(
    daemon: RunningDaemon, tmp_path: Path
) -> None:
    handler = """
        import os, torch.distributed as dist
        NAMES = ("RANK", "LOCAL_RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE", "GROUP_RANK",
                 "MASTER_ADDR", "OMP_NUM_THREADS")

        def listeners():
            lines = [line.split() for line in open("/proc/net/tcp").readlines()[1:]]
            port = "%04X" % int(os.environ["MASTER_PORT"])
            return [line[1] for line in lines if line[1].endswith(port) and line[3] == "0A"]

        class Handler:
            def initialize(self, context):
                dist.init_process_group("gloo")
                mine = {name: os.environ[name] for name in NAMES}
                mine["gpu_id"] = context.system_properties["gpu_id"]
                mine["elastic"] = dist.is_torchelastic_launched()
                mine["at"] = listeners()
                self.all = [None] * dist.get_world_size()
                dist.all_gather_object(self.all, mine)

            def handle(self, data, context):
                return [self.all] * len(data)
    """
    register(daemon, tmp_path, "seen", handler)
    for rank, seen in enumerate(predict(daemon, "seen", 1)):
        port = seen["at"][0].partition(":")[2]
        assert seen == {
            "RANK": str(rank),
            "LOCAL_RANK": str(rank),
            "WORLD_SIZE": "2",
            "LOCAL_WORLD_SIZE": "2",
            "GROUP_RANK": "0",
            "MASTER_ADDR": "127.0.0.1",
            "OMP_NUM_THREADS": "1",
            "gpu_id": None,
            "elastic": True,
            "at": [f"0100007F:{port}"],
        }


@pytest.mark.parametrize("victim", [0, 1])
def test_the_death_of_a_rank_under_load_costs_no_answer(
    daemon: RunningDaemon, tmp_path: Path, victim: int
) -> None:
    register(daemon, tmp_path, "linear", LINEAR, rows=4)
    before = processes(daemon, "linear")
    killed = next(pid for pid, rank in before.items() if rank == victim)
    port = daemon.port()
    path, body = "/predictions/linear", b"[0,0,0,0,0,0,0,1]"

    async def ask() -> list[tuple[int, bytes]]:
        client = Client(port)
        answers = [await client.post(path, body) for _ in range(60)]
        await client.close()
        return answers

    async def kill() -> list[tuple[int, bytes]]:
        client = Client(port)
        first = await client.post(path, body)
        os.kill(killed, signal.SIGKILL)
        await client.close()
        return [first]

    async def load() -> list[list[tuple[int, bytes]]]:
        return await asyncio.gather(*[ask() for _ in range(8)], kill())

    answers = [answer for several in asyncio.run(load()) for answer in several]
    assert len(answers) == 8 * 60 + 1
    assert {status for status, _ in answers} == {200}
    assert {tuple(json.loads(body)["y"]) for _, body in answers} == {(7, 15, 23, 31)}
    wait_for(lambda: len(daemon.worker_pids("linear")) == 1)
    after = processes(daemon, "linear")
    assert sorted(after.values()) == [0, 1]
    assert not set(after) & set(before)
    model = daemon.model("linear")
    assert (model["restarts"], model["last_error"]["cause"]) == (
        1,
        f"rank {victim}: killed by SIGKILL",
    )


FAILING = """
    import time, torch.distributed as dist

    class Handler:
        def initialize(self, context):
            dist.init_process_group("gloo")
            if dist.get_rank() == 1:
                raise RuntimeError("rank 1 has no weights")
            time.sleep(1000)

        def handle(self, data, context):
            return ["never"] * len(data)
"""


def test_a_rank_that_fails_to_load_fails_the_registration(
    daemon: RunningDaemon, tmp_path: Path
) -> None:
    config = CONFIG.format(**USUAL)
    archive = make_archive(tmp_path, "failing", FAILING, config)
    answer = daemon.call("POST", f"/models?url={archive}&synchronous=true")
    assert answer.status == 500
    assert answer.json()["why"] == "RuntimeError: rank 1 has no weights"
    assert daemon.call("GET", "/models/failing").status == 404
    assert processes(daemon, "failing") == {}


def test_a_group_that_is_not_wanted_any_more_while_it_starts_leaves_no_process(
    daemon: RunningDaemon, tmp_path: Path
) -> None:
    archive = make_archive(tmp_path, "linear", LINEAR, CONFIG.format(**USUAL | {"ranks": 4}))
    for questions in range(12):
        assert daemon.call("POST", f"/models?url={archive}&synchronous=false").status == 202
        for _ in range(questions):
            # Each takes a moment: the start is interrupted at another step every time.
            daemon.call("GET", "/models/linear")
        assert daemon.call("DELETE", "/models/linear").status == 200
    wait_for(lambda: processes(daemon, "linear") == {})


BEHAVING = """
    import os, time, torch, torch.distributed as dist

    class Handler:
        def initialize(self, context):
            dist.init_process_group("gloo")
            self.rank = dist.get_rank()

        def handle(self, data, context):
            asked = [bytes(row["body"]).decode() for row in data]
            if "hang" in asked and self.rank == 1:
                time.sleep(1000)
            if "lag" in asked and self.rank == 1:
                time.sleep(0.3)
            if "raise" in asked:
                raise ValueError(f"rank {self.rank} raises")
            print(f"rank {self.rank} ran {asked}")
            size = 300_000 if "large" in asked else 1
            return [f"{self.rank}" * size for _ in asked]
"""


def test_a_rank_that_hangs_is_ended_with_the_others(daemon: RunningDaemon, tmp_path: Path) -> None:
    register(daemon, tmp_path, "behaving", BEHAVING, response_s=1)
    before = processes(daemon, "behaving")
    answer = daemon.call("POST", "/predictions/behaving", b"hang")
    assert (answer.status, answer.json()["message"]) == (500, "Worker died.")
    assert daemon.call("POST", "/predictions/behaving", b"work").body == b"0"
    wait_for(lambda: len(processes(daemon, "behaving")) == 2)
    assert not set(processes(daemon, "behaving")) & set(before)


def test_only_the_words_of_rank_0_count_and_every_rank_has_run(
    daemon: RunningDaemon, tmp_path: Path
) -> None:
    register(daemon, tmp_path, "behaving", BEHAVING)
    for asked, expected in (("x", b"0"), ("lag", b"0"), ("large", b"0" * 300_000), ("y", b"0")):
        answer = daemon.call("POST", "/predictions/behaving", asked.encode())
        assert (answer.status, answer.body) == (200, expected)
        for rank in (0, 1):
            wait_for(lambda: f"rank {rank} ran ['{asked}']" in daemon.log)  # noqa: B023
    assert daemon.call("POST", "/predictions/behaving", b"raise").status == 503
    wait_for(lambda: "rank 0 raises" in daemon.log and "rank 1 raises" in daemon.log)
    assert daemon.model("behaving")["restarts"] == 0


PIECES = """
    import os, torch.distributed as dist
    from ts.handler_utils.utils import send_intermediate_predict_response

    def handle(data, context):
        if data is None:
            dist.init_process_group("gloo")
            return None
        rank = dist.get_rank()
        for number in range(3):
            dist.barrier()
            piece = [f"{rank}.{number} " for _ in data]
            send_intermediate_predict_response(
                piece, context.request_ids, "", 200, context
            )
        return [f"{rank}.end" for _ in data]
"""


def test_pieces_come_from_rank_0(daemon: RunningDaemon, tmp_path: Path) -> None:
    register(daemon, tmp_path, "pieces", PIECES)
    answer = daemon.call("POST", "/predictions/pieces", b"x")
    assert answer.body == b"0.0 0.1 0.2 0.end"


def test_jobs_that_overlap_are_refused_where_ranks_must_keep_step(
    daemon: RunningDaemon, tmp_path: Path
) -> None:
    config = "parallelType: pp\ncontinuousBatching: true\ntorchrun:\n  nproc-per-node: 2\n"
    archive = make_archive(tmp_path, "both", LINEAR, config)
    answer = daemon.call("POST", f"/models?url={archive}")
    assert answer.status == 400
    assert "does not go with continuousBatching" in answer.json()["message"]


def test_a_custom_division_is_one_process(daemon: RunningDaemon, tmp_path: Path) -> None:
    handler = """
        import os
        def handle(data, context):
            return None if data is None else [os.environ.get("RANK", "no rank")] * len(data)
    """
    config = "minWorkers: 2\nmaxWorkers: 2\nparallelType: custom\nparallelLevel: 2\n"
    daemon.register(make_archive(tmp_path, "custom", handler, config))
    assert daemon.call("POST", "/predictions/custom", b"x").body == b"no rank"
    described = daemon.call("GET", "/models/custom").json()[0]
    assert (described["parallelType"], described["parallelLevel"]) == ("custom", 2)
    assert len(daemon.worker_pids("custom")) == 2
