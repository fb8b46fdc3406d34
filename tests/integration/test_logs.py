"""The log of a real daemon: what handlers say, what went wrong, by model, worker and request id."""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from tests.support.archives import make_archive
from tests.support.daemon import Answer, RunningDaemon, running, wait_for
from tsd.journal import JournalSocket

MARKER = "7f3a-body-of-a-request"

SPEAKING = """
    import logging
    import os
    import sys
    import traceback

    logger = logging.getLogger("my.handler")

    def handle(data, context):
        if data is None:
            logger.warning("loading")
            return None
        print("printed")
        logger.error("logged")
        try:
            raise ValueError("of mine")
        except ValueError:
            logger.exception("caught")
            traceback.print_exc()
        logger.debug("too detailed")
        os.write(1, b"raw\\n")
        logging.basicConfig(stream=sys.stdout, format="own: %(message)s", force=True)
        logger.error("again")
        return ["ok"] * len(data)
"""
ASYNCHRONOUS = """
    import asyncio

    class Handler:
        def initialize(self, context):
            self.both = asyncio.Barrier(2)

        async def handle(self, data, context):
            await self.both.wait()
            print("said by", context.get_request_id(0))
            await self.both.wait()
            print("said again by", context.get_request_id(0))
            return ["ok"]
"""
TROUBLE = """
    import json
    import os
    import time

    def handle(data, context):
        if data is None:
            return None
        asked = data[0].get("body") or {}
        word = asked.get("do") if isinstance(asked, dict) else ""
        if word == "raise":
            raise RuntimeError("as asked")
        if word == "die":
            os._exit(3)
        if word == "hang":
            time.sleep(60)
        if word == "misuse":
            return [object()]
        return ["ok"] * len(data)
"""
JSON = {"content-type": "application/json"}


def records(daemon: RunningDaemon, **wanted: object) -> list[dict[str, Any]]:
    """What the daemon has logged, of those that have these fields."""
    lines = daemon.call("GET", "/tsd/logs?lines=2000").body.splitlines()
    found = map(json.loads, lines)
    return [one for one in found if all(one.get(key) == value for key, value in wanted.items())]


def logged(daemon: RunningDaemon, **wanted: object) -> dict[str, Any]:
    """The first such record, as soon as it is there."""
    wait_for(lambda: bool(records(daemon, **wanted)), timeout_s=30.0)
    return records(daemon, **wanted)[0]


def test_what_a_handler_says_has_its_level_its_logger_and_its_request(
    daemon: RunningDaemon, tmp_path: Path
) -> None:
    daemon.register(make_archive(tmp_path, "speaking", SPEAKING))
    answer = daemon.call("POST", "/predictions/speaking", b"x")
    own = {"model": "speaking", "version": "1.0", "worker": 1}
    about = own | {"request_id": answer.headers["x-request-id"]}
    logged(daemon, event="loading", level="warning", logger="my.handler", **own)
    logged(daemon, event="printed", level="info", source="stdout", **about)
    logged(daemon, event="logged", level="error", logger="my.handler", **about)
    caught = logged(daemon, event="caught", level="error", **about)
    assert caught["exception"].endswith("\nValueError: of mine")
    printed = logged(daemon, event="Traceback (most recent call last):", source="stderr", **about)
    assert printed["exception"].endswith("\nValueError: of mine")
    logged(daemon, event="own: again", level="info", **about)
    assert "request_id" not in logged(daemon, event="raw", level="info", **own)
    assert not records(daemon, event="too detailed")


def test_calls_that_overlap_say_each_their_own_request(
    daemon: RunningDaemon, tmp_path: Path
) -> None:
    config = "minWorkers: 1\nmaxWorkers: 1\nasyncCommunication: true\n"
    daemon.register(make_archive(tmp_path, "overlapping", ASYNCHRONOUS, config))
    with ThreadPoolExecutor(2) as pool:
        asked = [pool.submit(daemon.call, "POST", "/predictions/overlapping") for _ in range(2)]
        ids = [one.result().headers["x-request-id"] for one in asked]
    for request_id in ids:
        for text in ("said by", "said again by"):
            logged(daemon, event=f"{text} {request_id}", request_id=request_id)


def test_the_level_of_the_log_is_that_of_handlers(tmp_path: Path) -> None:
    with running(tmp_path, "--log-level", "debug") as daemon:
        daemon.register(make_archive(tmp_path, "speaking", SPEAKING))
        daemon.call("POST", "/predictions/speaking", b"x")
        logged(daemon, event="too detailed", level="debug")
    with running(tmp_path, "--log-level", "error") as daemon:
        daemon.call("POST", "/predictions/speaking", b"x")
        logged(daemon, event="caught")
        assert {record["level"] for record in records(daemon)} == {"error"}


@pytest.fixture(scope="module")
def troubled(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningDaemon]:
    """A daemon whose log says all it can, with a model that does what it is asked."""
    folder = tmp_path_factory.mktemp("troubled")
    config = "minWorkers: 1\nmaxWorkers: 1\nresponseTimeout: 1\n"
    with running(folder, "--log-level", "debug") as daemon:
        daemon.register(make_archive(folder, "trouble", TROUBLE, config))
        yield daemon


def asked_to(daemon: RunningDaemon, what: str, **more: str) -> Answer:
    body = json.dumps({"do": what, **more}).encode()
    return daemon.call("POST", "/predictions/trouble", body, JSON)


@pytest.mark.parametrize(
    ("what", "code"),
    [("raise", "handler_raised"), ("misuse", "bad_output"), ("hang", "worker_hung")],
)
def test_f06_an_error_and_its_log_line_have_one_id(
    troubled: RunningDaemon, what: str, code: str
) -> None:
    answer = asked_to(troubled, what)
    assert answer.status >= 500
    record = logged(troubled, code=code, request_id=answer.headers["x-request-id"])
    assert (record["model"], record["version"], record["worker"]) == ("trouble", "1.0", 1)
    if what == "raise":
        assert record["exception"].endswith("RuntimeError: as asked\n")


def test_f01_f03_the_death_of_the_only_worker_and_its_end_are_told(
    troubled: RunningDaemon,
) -> None:
    request_id = asked_to(troubled, "die").headers["x-request-id"]
    died = {"code": "worker_died", "request_id": request_id, "exit_code": 3}
    wait_for(lambda: len(records(troubled, **died)) == 2)
    assert asked_to(troubled, "nothing").status == 200
    told = [record.get("code") for record in records(troubled, model="trouble")]
    assert told.index("worker_died") < len(told) - told[::-1].index("model_degraded")
    assert told[::-1].index("model_ready") < told[::-1].index("model_degraded")


def test_a_missed_deadline_is_told_with_its_request(daemon: RunningDaemon, tmp_path: Path) -> None:
    config = "minWorkers: 1\nmaxWorkers: 1\nclientTimeoutInMills: 500\n"
    daemon.register(make_archive(tmp_path, "trouble", TROUBLE, config))
    answer = asked_to(daemon, "hang")
    found = {"code": "deadline_passed", "request_id": answer.headers["x-request-id"]}
    assert logged(daemon, **found)["model"] == "trouble"


def test_no_body_of_a_request_is_in_the_log(troubled: RunningDaemon) -> None:
    for what in ("raise", "misuse", "die", "nothing"):
        asked_to(troubled, what, marker=MARKER)
    body = f'{{"{MARKER}": '.encode()
    asked = [
        ("POST", "/predictions/trouble", JSON),
        ("POST", "/predictions/trouble", {"content-type": "multipart/form-data; boundary=x"}),
        ("POST", "/predictions/unknown", JSON),
        ("POST", "/v2/models/trouble/infer", JSON),
        ("POST", "/models", JSON),
        ("PUT", "/models/trouble", JSON),
        ("POST", "/tsd/logs", JSON),
    ]
    answers = [troubled.call(method, path, body, head) for method, path, head in asked]
    assert {answer.status // 100 for answer in answers} >= {4}
    asked_to(troubled, "raise")
    assert "RuntimeError: as asked" in troubled.log
    assert MARKER not in troubled.log
    assert MARKER not in troubled.call("GET", "/tsd/logs?lines=2000").body.decode()


class Journald:
    """The receiving end, and what came in."""

    def __init__(self, path: Path) -> None:
        path.unlink(missing_ok=True)
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.bind(str(path))

    def read(self) -> bytes:
        datagram, descriptors, _, _ = socket.recv_fds(self.socket, 1 << 20, 1)
        if not descriptors:
            return datagram
        with os.fdopen(descriptors[0], "rb") as file:
            file.seek(0)
            return file.read()


def test_f40_records_reach_the_journal_again_when_it_is_back(tmp_path: Path) -> None:
    path = tmp_path / "socket"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as ours:
        way = JournalSocket(ours, str(path))
        record = {"level": "info", "text": "small"}
        with pytest.raises(FileNotFoundError):
            way.write(record)
        for _ in range(2):
            journald = Journald(path)
            way.write(record)
            way.write(record | {"text": "x" * 1_000_000})
            assert b"MESSAGE=small\n" in journald.read()
            assert b"MESSAGE=" + b"x" * 1_000_000 in journald.read()
            journald.socket.close()
            with pytest.raises(ConnectionRefusedError):
                way.write(record)


def test_f40_a_journal_that_does_not_read_costs_records_and_no_time(tmp_path: Path) -> None:
    path = tmp_path / "socket"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as ours:
        journald, way = Journald(path), JournalSocket(ours, str(path))

        def fill() -> None:
            while True:
                way.write({"level": "info", "text": "nobody reads"})

        with pytest.raises(BlockingIOError):
            fill()
        journald.socket.close()
