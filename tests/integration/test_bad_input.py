"""Bad input gets a clear error, at once, and the daemon goes on."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.archives import make_archive
from tests.support.daemon import RunningDaemon, launched, running, wait_for

RAISES_AT_LOAD = """
    raise RuntimeError("no weights for you")
"""
RAISES_AT_PREDICT = """
    def handle(data, context):
        if data is None:
            return None
        raise ValueError("cannot be computed")
"""


def register_error(
    daemon: RunningDaemon, url: object, query: str = ""
) -> tuple[int, dict[str, str]]:
    answer = daemon.call("POST", f"/models?url={url}&{query}")
    return answer.status, answer.json()


def assert_serves(daemon: RunningDaemon) -> None:
    assert daemon.call("POST", "/predictions/echo", b"still here").body == b"still here"


def test_an_unknown_model_is_404(shared_daemon: RunningDaemon) -> None:
    answer = shared_daemon.call("POST", "/predictions/nobody", b"x")
    assert answer.status == 404
    assert answer.json()["type"] == "ModelNotFoundException"
    assert answer.json()["message"] == "Model not found: nobody"
    assert answer.headers["connection"] == "close"


def test_a_wrong_version_is_404(shared_daemon: RunningDaemon) -> None:
    answer = shared_daemon.call("POST", "/predictions/echo/9.9", b"x")
    assert answer.status == 404
    assert answer.json() == {
        "code": 404,
        "type": "ModelVersionNotFoundException",
        "message": "Model version: 9.9 does not exist for model: echo",
    }


def test_a_missing_archive_is_404(shared_daemon: RunningDaemon) -> None:
    status, error = register_error(shared_daemon, "/nowhere/model.mar")
    assert status == 404
    assert error["message"] == "Model not found at: /nowhere/model.mar"
    assert error["fix"]


@pytest.mark.parametrize("kept", [0, 10, 200, -40])
def test_a_truncated_archive_is_refused(
    shared_daemon: RunningDaemon, tmp_path: Path, kept: int
) -> None:
    whole = make_archive(tmp_path, "cut").read_bytes()
    before = sorted((shared_daemon.state_dir / "models").iterdir())
    (tmp_path / "cut.mar").write_bytes(whole[:kept])
    status, error = register_error(shared_daemon, tmp_path / "cut.mar")
    assert status == 400
    assert error["type"] == "InvalidModelException"
    assert_serves(shared_daemon)
    assert sorted((shared_daemon.state_dir / "models").iterdir()) == before


def test_a_handler_that_raises_at_load_is_reported_and_forgotten(
    shared_daemon: RunningDaemon, tmp_path: Path
) -> None:
    archive = make_archive(tmp_path, "broken", RAISES_AT_LOAD)
    status, error = register_error(shared_daemon, archive)
    assert status == 500
    assert error["message"] == "Failed to start workers for model broken version: 1.0"
    assert error["why"] == "RuntimeError: no weights for you"
    assert shared_daemon.call("GET", "/models/broken").status == 404
    assert_serves(shared_daemon)


@pytest.mark.parametrize("words", ["MemoryError()", "RuntimeError('CUDA out of memory')"])
def test_a_model_that_does_not_fit_is_507(
    shared_daemon: RunningDaemon, tmp_path: Path, words: str
) -> None:
    status, error = register_error(
        shared_daemon, make_archive(tmp_path, "huge", f"raise {words}"), "initial_workers=1"
    )
    assert status == 507
    assert error["type"] == "InternalServerException"


def test_a_model_that_never_loads_fails_and_says_why(
    shared_daemon: RunningDaemon, tmp_path: Path
) -> None:
    settings = "minWorkers: 1\nmaxWorkers: 1\nmaxRetryTimeoutInSec: 1\n"
    archive = make_archive(tmp_path, "looping", RAISES_AT_LOAD, settings)
    answer = shared_daemon.call("POST", f"/models?url={archive}&synchronous=false")
    assert answer.status == 202
    wait_for(lambda: shared_daemon.model("looping")["state"] == "failed")
    answer = shared_daemon.call("POST", "/predictions/looping", b"x")
    assert answer.status == 503
    assert int(answer.headers["retry-after"]) >= 1
    last_error = shared_daemon.model("looping")["last_error"]
    assert "RuntimeError: no weights for you" in last_error["traceback"]
    assert shared_daemon.call("GET", "/v2/health/ready").status == 503
    wait_for(lambda: shared_daemon.call("GET", "/ping").status == 500)
    assert shared_daemon.call("DELETE", "/models/looping").status == 200
    assert shared_daemon.call("GET", "/ping").status == 200


def test_f06_a_handler_that_raises_at_predict_is_503_without_its_words(
    shared_daemon: RunningDaemon, tmp_path: Path
) -> None:
    archive = make_archive(tmp_path, "raising", RAISES_AT_PREDICT)
    shared_daemon.register(archive, initial_workers=1)
    pids = shared_daemon.worker_pids("raising")
    for _ in range(20):
        answer = shared_daemon.call("POST", "/predictions/raising", b"x")
        assert answer.status == 503
        assert answer.json()["message"] == "Prediction failed"
        assert b"computed" not in answer.body
    assert shared_daemon.worker_pids("raising") == pids
    assert f"request_id={answer.headers['x-request-id']}" in shared_daemon.log
    assert "cannot be computed" in shared_daemon.log
    shared_daemon.call("DELETE", "/models/raising")


def test_a_body_over_the_limit_is_413_before_it_is_read(shared_daemon: RunningDaemon) -> None:
    with socket.create_connection(("127.0.0.1", shared_daemon.port()), timeout=10) as client:
        head = "POST /predictions/echo HTTP/1.1\r\nHost: x\r\nContent-Length: {}\r\n"
        client.sendall(head.format(6_553_501).encode() + b"Expect: 100-continue\r\n\r\n")
        assert client.recv(65_536).startswith(b"HTTP/1.1 413 Request Entity Too Large\r\n")
    body = b"x" * 6_553_500
    assert shared_daemon.call("POST", "/predictions/echo", body).body == body


@pytest.mark.parametrize(
    "request_bytes",
    [
        b"nonsense\r\n\r\n",
        b"GET / HTTP/1.1\r\n\r\n",
        b"GET /ping HTTP/1.1\r\nHost: a\r\nbad\r\n\r\n",
    ],
)
def test_malformed_http_is_400_and_closed(
    shared_daemon: RunningDaemon, request_bytes: bytes
) -> None:
    with socket.create_connection(("127.0.0.1", shared_daemon.port()), timeout=10) as client:
        client.sendall(request_bytes)
        answer = b"".join(iter(lambda: client.recv(65_536), b""))
    assert answer.startswith(b"HTTP/1.1 400 ")
    assert b"Invalid HTTP message." in answer
    assert_serves(shared_daemon)


@pytest.mark.parametrize(
    ("method", "path", "status", "kind"),
    [
        ("GET", "/nothing", 404, "ResourceNotFoundException"),
        ("GET", "/predictions", 404, "ResourceNotFoundException"),
        ("PATCH", "/models", 405, "MethodNotAllowedException"),
        ("POST", "/models", 400, "BadRequestException"),
        ("POST", "/models?url=", 404, "ModelNotFoundException"),
        ("POST", "/models?url=../echo.mar", 404, "ModelNotFoundException"),
        ("POST", "/models?url=echo.mar&runtime=python4", 400, "BadRequestException"),
        ("POST", "/models?url=http://example.com/a.mar", 404, "ModelNotFoundException"),
        ("PUT", "/models/nobody?min_worker=1", 404, "ModelNotFoundException"),
        ("PUT", "/models/echo?min_worker=2&max_worker=1", 400, "BadRequestException"),
        ("PUT", "/models/echo?min_worker=-1", 400, "BadRequestException"),
        ("PUT", "/models/echo?min_worker=100000", 400, "BadRequestException"),
        ("PUT", "/models/echo/7/set-default", 404, "ModelVersionNotFoundException"),
        ("DELETE", "/models/echo/7", 404, "ModelVersionNotFoundException"),
    ],
)
def test_a_wrong_call_says_what_is_wrong(
    shared_daemon: RunningDaemon, method: str, path: str, status: int, kind: str
) -> None:
    answer = shared_daemon.call(method, path)
    assert (answer.status, answer.json()["type"]) == (status, kind)
    assert_serves(shared_daemon)


def test_only_an_operator_names_files_outside_the_store(
    shared_daemon: RunningDaemon, tmp_path: Path
) -> None:
    archive = make_archive(tmp_path, "outside")
    with socket.create_connection(("127.0.0.1", shared_daemon.port("management"))) as client:
        request = f"POST /models?url={archive} HTTP/1.1\r\nHost: x\r\n\r\n"
        client.sendall(request.encode())
        answer = b"".join(iter(lambda: client.recv(65_536), b""))
    assert answer.startswith(b"HTTP/1.1 404 ")
    assert b"why" not in answer


def test_a_log_that_nobody_reads_stops_nothing(tmp_path: Path) -> None:
    read_end, write_end = os.pipe()
    os.set_blocking(write_end, False)
    try:
        while True:
            os.write(write_end, b"x" * 4096)
    except BlockingIOError:
        os.set_blocking(write_end, True)
    try:
        with running(tmp_path, stderr=write_end) as daemon:
            assert daemon.call("DELETE", "/models/nobody").status == 404
            assert daemon.call("GET", "/tsd/status").json()["log_dropped"] > 0
    finally:
        os.close(read_end)
        os.close(write_end)


def run_tsd(*options: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "tsd", *options],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_an_unknown_configuration_key_is_named_with_a_suggestion(tmp_path: Path) -> None:
    (tmp_path / "tsd.toml").write_text("[http]\nmax_request_byte = 5\n")
    ended = run_tsd("--config", str(tmp_path / "tsd.toml"), "--check-config")
    assert ended.returncode == 78
    assert "max_request_byte" in ended.stderr
    assert "max_request_bytes" in ended.stderr


def test_a_port_in_use_ends_the_start_with_three_lines(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as holder:
        address = f"127.0.0.1:{holder.getsockname()[1]}"
        with launched(tmp_path, "--http", address) as late:
            assert late.process.wait(30) == 1
    assert f"cannot listen on {address}" in late.log
    assert "why: " in late.log
    assert "fix: " in late.log


def test_f35_a_stale_socket_is_replaced_and_a_live_one_is_not(tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    with running(tmp_path) as first:
        with launched(tmp_path / "other", runtime_dir=first.runtime_dir) as second:
            assert second.process.wait(30) == 1
        assert f"process {first.pid}" in second.log
        first.process.kill()
        first.process.wait()
        assert first.control.exists()
        with running(tmp_path / "other", runtime_dir=first.runtime_dir) as third:
            assert third.call("GET", "/ping").status == 200
