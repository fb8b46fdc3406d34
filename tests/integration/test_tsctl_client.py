"""tsctl as a process, against a canned daemon on a real Unix socket."""

from __future__ import annotations

import json
import os
import pty
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path

import pytest

Piece = bytes | threading.Event


class CannedDaemon:
    """Answers every connection with the same pieces; an event among them is waited for."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.requests: list[bytes] = []
        self.pieces: Sequence[Piece] = ()
        self.reads_bodies = True
        self._listener = socket.socket(socket.AF_UNIX)
        self._thread = threading.Thread(target=self._serve)

    def __enter__(self) -> CannedDaemon:
        self._listener.bind(os.fspath(self.path))
        self._listener.listen()
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        # A shutdown wakes the thread out of accept; a close alone would not.
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._thread.join()

    def _serve(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            # A client that has read enough may leave.
            with connection, suppress(BrokenPipeError, ConnectionResetError):
                self._answer(connection)

    def _answer(self, connection: socket.socket) -> None:
        self.requests.append(read_request(connection, reads_body=self.reads_bodies))
        for piece in self.pieces:
            if isinstance(piece, bytes):
                connection.sendall(piece)
            else:
                piece.wait(30)


def read_request(connection: socket.socket, *, reads_body: bool) -> bytes:
    with connection.makefile("rb") as reader:
        head = b"".join(iter(reader.readline, b"\r\n"))
        for line in head.split(b"\r\n"):
            if reads_body and line.lower().startswith(b"content-length:"):
                return head + b"\r\n" + reader.read(int(line.partition(b":")[2]))
        return head


def plain(status: int, body: object, kind: str = "application/json") -> bytes:
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    head = f"HTTP/1.1 {status} X\r\nContent-Type: {kind}\r\nContent-Length: {len(data)}\r\n\r\n"
    return head.encode() + data


STREAM = (
    b"HTTP/1.1 200 OK\r\nContent-Type: application/x-ndjson\r\nTransfer-Encoding: chunked\r\n\r\n"
)
END = b"0\r\n\r\n"


def chunk(record: object) -> bytes:
    line = json.dumps(record).encode() + b"\n"
    return b"%x\r\n%s\r\n" % (len(line), line)


QUEUED = chunk({"phase": "queued", "elapsed_s": 0.0})
RESULT = chunk({"result": {"code": 200, "status": "registered"}, "model": "m", "version": "1"})


@pytest.fixture
def daemon(tmp_path: Path) -> Iterator[CannedDaemon]:
    with CannedDaemon(tmp_path / "control.sock") as canned:
        yield canned


def command(path: Path, *words: str) -> list[str]:
    return [sys.executable, "-m", "tsctl", "--socket", str(path), *words]


def tsctl(path: Path, *words: str, data: bytes = b"") -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(
        command(path, *words), input=data, capture_output=True, check=False, timeout=60
    )


def test_list_prints_a_table(daemon: CannedDaemon) -> None:
    daemon.pieces = [plain(200, {"models": [{"name": "m", "version": "1", "state": "ready"}]})]
    done = tsctl(daemon.path, "list")
    assert done.returncode == 0
    assert done.stdout.splitlines()[1].split()[:3] == [b"m", b"1", b"ready"]
    assert daemon.requests[0].startswith(b"GET /tsd/models HTTP/1.1\r\n")


def test_register_shows_phases_and_confirms(daemon: CannedDaemon) -> None:
    daemon.pieces = [STREAM, QUEUED, RESULT, END]
    done = tsctl(daemon.path, "register", "m.mar")
    assert (done.returncode, done.stdout, done.stderr) == (0, b"registered\n", b"queued\n")
    assert b"Accept: application/x-ndjson\r\n" in daemon.requests[0]


def test_register_in_json_prints_the_last_record(daemon: CannedDaemon) -> None:
    daemon.pieces = [STREAM, QUEUED, RESULT, END]
    done = tsctl(daemon.path, "register", "m.mar", "--json", "--quiet")
    assert json.loads(done.stdout)["result"]["status"] == "registered"
    assert done.stderr == b""


def test_a_model_that_does_not_start_is_told_with_its_traceback(daemon: CannedDaemon) -> None:
    error = {"code": 500, "message": "no start", "why": "w", "fix": "f", "traceback": "Boom\x1b"}
    daemon.pieces = [STREAM, QUEUED, chunk({"error": error}), END]
    done = tsctl(daemon.path, "register", "m.mar", "--quiet")
    assert done.returncode == 5
    assert done.stderr == b"tsctl: no start\n  why: w\n  fix: f\n"
    assert b"    Boom\\x1b\n" in tsctl(daemon.path, "register", "m.mar").stderr


@pytest.mark.parametrize(("status", "exit_status"), [(409, 3), (404, 4), (503, 5), (403, 7)])
def test_each_refusal_has_its_exit_status(
    daemon: CannedDaemon, status: int, exit_status: int
) -> None:
    daemon.pieces = [plain(status, {"code": status, "type": "T", "message": "no"})]
    done = tsctl(daemon.path, "unregister", "m")
    assert done.returncode == exit_status
    assert done.stderr.startswith(b"tsctl: no\n  why: T, HTTP")
    in_json = tsctl(daemon.path, "--json", "unregister", "m")
    assert in_json.returncode == exit_status
    assert json.loads(in_json.stdout)["error"]["exit_status"] == exit_status


def test_a_daemon_that_leaves_is_told(daemon: CannedDaemon) -> None:
    daemon.pieces = [STREAM, QUEUED]
    done = tsctl(daemon.path, "scale", "m", "2")
    assert done.returncode == 6
    assert b"ended early" in done.stderr


def test_no_daemon_is_told_with_what_to_do(tmp_path: Path) -> None:
    nobody = tmp_path / "none.sock"
    done = tsctl(nobody, "status")
    assert done.returncode == 6
    assert done.stderr.decode().splitlines() == [
        f"tsctl: cannot reach the daemon at {nobody}",
        "  why: there is no such socket: the daemon does not run, or runs elsewhere",
        "  fix: `systemctl start tsd` starts it; --socket PATH names another socket",
    ]


def test_a_stale_socket_is_told(tmp_path: Path) -> None:
    stale = tmp_path / "stale.sock"
    with socket.socket(socket.AF_UNIX) as left:
        left.bind(os.fspath(stale))
    done = tsctl(stale, "list")
    assert done.returncode == 6
    assert b"nothing listens on it" in done.stderr


def test_a_wrong_command_line_is_three_lines_too(daemon: CannedDaemon) -> None:
    done = tsctl(daemon.path, "scale", "m", "many")
    assert done.returncode == 2
    assert [line[:7] for line in done.stderr.splitlines()] == [b"tsctl: ", b"  why: ", b"  fix: "]
    assert not daemon.requests


def test_predict_passes_bytes_both_ways(daemon: CannedDaemon, tmp_path: Path) -> None:
    daemon.pieces = [plain(200, b"\x00\xff\x1b", "application/octet-stream")]
    done = tsctl(daemon.path, "predict", "m", data=b"\x01\xfe" * 200_000)
    assert done.stdout == b"\x00\xff\x1b"
    assert daemon.requests[0].endswith(b"\x01\xfe" * 200_000)
    out = tmp_path / "out"
    assert tsctl(daemon.path, "predict", "m", "--data", "1", "-o", str(out)).returncode == 0
    assert out.read_bytes() == b"\x00\xff\x1b"


def test_an_input_that_cannot_be_read_is_told(daemon: CannedDaemon, tmp_path: Path) -> None:
    done = tsctl(daemon.path, "predict", "m", str(tmp_path / "none.png"))
    assert done.returncode == 1
    assert done.stderr.startswith(b"tsctl: cannot use the file")


def test_an_early_refusal_of_a_large_body_is_read(daemon: CannedDaemon, tmp_path: Path) -> None:
    daemon.reads_bodies = False
    (tmp_path / "large.bin").write_bytes(bytes(4_000_000))
    daemon.pieces = [plain(413, {"code": 413, "type": "T", "message": "too large"})]
    done = tsctl(daemon.path, "predict", "m", str(tmp_path / "large.bin"))
    assert done.returncode == 3
    assert done.stderr.startswith(b"tsctl: too large\n")


def test_logs_are_printed_as_they_come(daemon: CannedDaemon) -> None:
    read = threading.Event()
    first = {"timestamp": "T", "level": "info", "event": "one\x1b"}
    daemon.pieces = [STREAM, chunk(first), read, chunk({**first, "event": "two"}), END]
    with subprocess.Popen(command(daemon.path, "logs", "-f"), stdout=subprocess.PIPE) as process:
        assert process.stdout
        assert process.stdout.readline() == b"T info     one\\x1b\n"
        read.set()
        assert process.stdout.read() == b"T info     two\n"
    assert process.returncode == 0


def test_nobody_reading_the_output_is_no_crash(daemon: CannedDaemon) -> None:
    record = {"timestamp": "T", "level": "info", "event": "x" * 1000}
    daemon.pieces = [STREAM, *[chunk(record)] * 500, END]
    with subprocess.Popen(
        command(daemon.path, "logs"), stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        assert process.stdout
        assert process.stderr
        process.stdout.readline()
        process.stdout.close()
        assert process.stderr.read() == b""
    assert process.returncode == 141


def test_an_interrupted_wait_says_that_the_daemon_goes_on(daemon: CannedDaemon) -> None:
    ended = threading.Event()
    daemon.pieces = [STREAM, QUEUED, ended]
    with subprocess.Popen(
        command(daemon.path, "scale", "m", "2"),
        stderr=subprocess.PIPE,
        # Who runs the tests in the background has it ignored, and so would tsctl.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    ) as process:
        assert process.stderr
        assert process.stderr.readline() == b"queued\n"
        process.send_signal(signal.SIGINT)
        said = process.stderr.read()
        ended.set()
    assert process.returncode == 130
    assert b"the daemon goes on with it" in said


def test_on_a_terminal_the_phase_is_rewritten_while_the_daemon_is_silent(
    daemon: CannedDaemon,
) -> None:
    seen = threading.Event()
    daemon.pieces = [STREAM, QUEUED, seen, RESULT, END]
    ours, theirs = pty.openpty()
    with subprocess.Popen(
        command(daemon.path, "register", "m.mar"),
        stdout=subprocess.PIPE,
        stderr=theirs,
        env={**os.environ, "TERM": "xterm"},
    ) as process:
        os.close(theirs)
        drawn = b""
        while drawn.count(b"queued, ") < 3:
            drawn += os.read(ours, 1024)
        seen.set()
        assert process.stdout
        assert process.stdout.read() == b"registered\n"
    os.close(ours)
    assert process.returncode == 0
