"""A worker that dies at any step of the crossing loses no request and mixes none up."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from tests.support.archives import make_archive
from tests.support.daemon import RunningDaemon, wait_for
from tests.support.load import Client

# The handler replaces the function by which its own worker sends notices: the worker dies right
# before or right after a notice of one kind, once. A file says that it has happened.
DYING = """
    import os, pathlib, signal
    from tsd.ipc.layout import unpack_header
    from tsd.worker import runner

    MARK = pathlib.Path({mark!r})
    SIZE = {size}
    send = runner.wire.send_notice

    def die(step):
        if step != {step!r}:
            return
        try:
            MARK.unlink()
        except FileNotFoundError:
            return
        os.kill(os.getpid(), signal.SIGKILL)

    def send_and_die(end, notice, descriptors=()):
        kind = unpack_header(notice).kind.name
        die("before " + kind)
        send(end, notice, descriptors)
        die("after " + kind)

    runner.wire.send_notice = send_and_die

    def handle(data, context):
        if data is None:
            return None
        die("in the handler")
        return [bytes(row["body"]) * SIZE for row in data]
"""

SMALL_STEPS = ["in the handler", "before BODIES", "after BODIES"]
LARGE_STEPS = ["in the handler", "before NEED", "after NEED", "before ANSWERS", "after ANSWERS"]


@pytest.mark.parametrize(
    ("step", "size"),
    [(step, 1) for step in SMALL_STEPS] + [(step, 40_000) for step in LARGE_STEPS],
)
def test_no_request_is_lost_or_mixed_up(
    daemon: RunningDaemon, tmp_path: Path, step: str, size: int
) -> None:
    mark = tmp_path / "mark"
    handler = DYING.format(mark=str(mark), size=size, step=step)
    config = "minWorkers: 2\nmaxWorkers: 2\nbatchSize: 4\n"
    daemon.register(make_archive(tmp_path, "dying", handler, config))
    mark.touch()
    bodies = [b"%04d" % number for number in range(32)]

    async def ask(body: bytes) -> tuple[int, bytes]:
        client = Client(port)
        answer = await client.post("/predictions/dying", body)
        await client.close()
        return answer

    async def ask_all() -> list[tuple[int, bytes]]:
        return await asyncio.gather(*[ask(body) for body in bodies])

    port = daemon.port()
    answers = asyncio.run(ask_all())
    assert [answer == (200, body * size) for answer, body in zip(answers, bodies, strict=True)] == (
        [True] * len(bodies)
    )
    assert not mark.exists(), "nobody died: the test did not test anything"
    wait_for(lambda: len(daemon.worker_pids("dying")) == 2)
    assert "killed by SIGKILL" in daemon.log


DIES_AT_LOAD = """
    import os, pathlib, signal
    MARK = pathlib.Path({mark!r})
    if {step!r} == "import" and MARK.exists():
        MARK.unlink()
        os.kill(os.getpid(), signal.SIGKILL)

    class Handler:
        def initialize(self, context):
            if MARK.exists():
                MARK.unlink()
                os._exit(3)

        def handle(self, data, context):
            return [row["body"] for row in data]
"""


@pytest.mark.parametrize("step", ["import", "initialize"])
def test_a_worker_that_dies_while_it_loads_is_started_again(
    daemon: RunningDaemon, tmp_path: Path, step: str
) -> None:
    mark = tmp_path / "mark"
    mark.touch()
    archive = make_archive(tmp_path, "late", DIES_AT_LOAD.format(mark=str(mark), step=step))
    assert daemon.call("POST", f"/models?url={archive}&synchronous=false").status == 202
    assert daemon.call("POST", "/predictions/late", b"waited").body == b"waited"
    assert not mark.exists()
    cause = daemon.model("late")["last_error"]["cause"]
    assert cause == ("killed by SIGKILL" if step == "import" else "exit status 3")


HOSTILE = """
    import os
    from tsd.ipc.layout import ANSWER, HEADER, WIRE_VERSION, NoticeKind
    from tsd.worker import runner
    send = runner.wire.send_notice

    def answers_to(notice):
        batch = HEADER.unpack_from(notice)[4]
        return HEADER.pack(WIRE_VERSION, NoticeKind.ANSWERS, 0, 1, batch, 0, 0)

    def send_nonsense(end, notice, descriptors=()):
        if HEADER.unpack_from(notice)[1] == NoticeKind.BODIES:
            notice = {notice}
        send(end, notice, descriptors)

    runner.wire.send_notice = send_nonsense

    def handle(data, context):
        if data is None:
            return None
        return ["x"] * len(data)
"""


@pytest.mark.parametrize(
    "notice",
    [
        "b'short'",
        "HEADER.pack(WIRE_VERSION, 99, 0, 1, 1, 0, 0)",
        "HEADER.pack(WIRE_VERSION, NoticeKind.ANSWERS, 0, 1, 77, 0, 0) + b'x' * 32",
        "answers_to(notice) + ANSWER.pack(99, 64, 0, 0, 200, 0, 0)",
        "notice[:32] + b'xxxx' + notice[36:]",
        "notice + b'x'",
        "notice[:32]",
        "HEADER.pack(WIRE_VERSION, NoticeKind.BATCH, 0, 0, 1, 0, 0)",
        "answers_to(notice) + ANSWER.pack(1, 2**40, 2**40, 0, 200, 0, 1)",
        "HEADER.pack(WIRE_VERSION, NoticeKind.PHASE, 0, 0, 0, 0, 0) + b'loading'",
        "HEADER.pack(WIRE_VERSION, NoticeKind.READY, 0, 0, 0, 0, 0)",
    ],
)
def test_f17_a_worker_that_writes_nonsense_is_killed_and_not_believed(
    daemon: RunningDaemon, tmp_path: Path, notice: str
) -> None:
    daemon.register(make_archive(tmp_path, "hostile", HOSTILE.format(notice=notice)))
    daemon.register(make_archive(tmp_path))
    answer = daemon.call("POST", "/predictions/hostile", b"x")
    assert (answer.status, answer.json()["message"]) == (500, "Worker died.")
    assert "not believed" in daemon.log
    assert daemon.call("POST", "/predictions/echo", b"well").body == b"well"


HANGING = """
    import signal, time
    signal.signal(signal.SIGTERM, {ignores})
    def handle(data, context):
        if data is None:
            return None
        if bytes(data[0]["body"]) == b"hang":
            while True:
                time.sleep(1)
        return ["ok"] * len(data)
"""


@pytest.mark.parametrize("ignores", ["signal.SIG_DFL", "signal.SIG_IGN"])
def test_f05_a_worker_that_hangs_is_ended_and_the_queue_moves_on(
    daemon: RunningDaemon, tmp_path: Path, ignores: str
) -> None:
    config = "minWorkers: 1\nmaxWorkers: 1\nresponseTimeout: 1\n"
    handler = HANGING.format(ignores=ignores)
    daemon.register(make_archive(tmp_path, "hanging", handler, config))
    answer = daemon.call("POST", "/predictions/hanging", b"hang")
    assert (answer.status, answer.json()["message"]) == (500, "Worker died.")
    assert daemon.call("POST", "/predictions/hanging", b"work").body == b"ok"


NOT_IDEMPOTENT = """
    import os
    def handle(data, context):
        if data is None:
            return None
        os._exit(7)
"""


def test_f02_a_model_that_is_not_idempotent_is_not_tried_twice(
    daemon: RunningDaemon, tmp_path: Path
) -> None:
    config = "minWorkers: 1\nmaxWorkers: 1\nidempotent: false\n"
    daemon.register(make_archive(tmp_path, "once", NOT_IDEMPOTENT, config))
    assert daemon.call("POST", "/predictions/once", b"x").status == 500
    assert daemon.model("once")["restarts"] == 1


def test_f07_a_poison_request_kills_two_workers_and_no_more(
    daemon: RunningDaemon, tmp_path: Path
) -> None:
    daemon.register(make_archive(tmp_path, "poison", NOT_IDEMPOTENT))
    assert daemon.call("POST", "/predictions/poison", b"x").status == 500
    assert daemon.model("poison")["restarts"] == 2
    assert daemon.model("poison")["last_error"]["cause"] == "exit status 7"
