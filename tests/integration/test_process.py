"""Titles, parents, ends of processes and inherited sockets, each with real processes."""

from __future__ import annotations

import os
import select
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tsd import process, systemd
from tsd.errors import StartupError
from tsd.process import ExitStatus

LIMIT_S = 60


@contextmanager
def program(text: str, *arguments: str) -> Iterator[subprocess.Popen[str]]:
    """A Python process that runs `text`; it ends with the test."""
    started = subprocess.Popen(
        [sys.executable, "-c", text, *arguments],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        yield started
    finally:
        started.kill()
        started.communicate()


def line(started: subprocess.Popen[str]) -> str:
    assert started.stdout is not None
    return started.stdout.readline().rstrip("\n")


def shown_title(pid: int) -> bytes:
    return Path(f"/proc/{pid}/cmdline").read_bytes()


TITLED = """
import os, sys
from tsd import process
environment = open("/proc/self/environ", "rb").read()
title = sys.argv[1].encode().decode("unicode_escape")
process.set_title(title)
process.set_title(title)
assert open("/proc/self/environ", "rb").read() == environment
assert os.environ["PATH"] and len(sys.argv) == 2
if pid := os.fork():
    os.waitpid(pid, 0)
else:
    process.set_title("forked")
    print(open("/proc/self/cmdline").read(), flush=True)
    os._exit(0)
print("titled", flush=True)
sys.stdin.read()
"""


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("tsd", b"tsd\0"),
        ("tsd worker: digits/1.0 #3 cpu", b"tsd worker: digits/1.0 #3 cpu\0"),
        ("", b"\0"),
        ("a\\0b", b"ab\0"),
        ("gr\\xfcn", "grün\0".encode()),
    ],
)
def test_a_title_is_what_ps_shows_and_nothing_else_changes(given: str, expected: bytes) -> None:
    with program(TITLED, given) as started:
        assert line(started) == "forked\0"
        assert line(started) == "titled"
        assert shown_title(started.pid) == expected
        name = Path(f"/proc/{started.pid}/comm").read_bytes().rstrip(b"\n")
        assert name == expected.rstrip(b"\0")[:15]


def test_a_title_longer_than_the_arguments_is_cut() -> None:
    text = "from tsd.process import set_title as s; s('y' * 9999); print(1, flush=True); input()"
    with program(text) as started:
        assert line(started) == "1"
        size = len(f"{sys.executable}\0-c\0{text}\0")
        assert shown_title(started.pid) == b"y" * (size - 2) + b"\0"


FAMILY = """
import os, sys
from tsd import process
process.become_subreaper()
me = os.getpid()
end, gate = os.pipe()
middle = os.fork()
if middle == 0:
    if os.fork() == 0:
        process.die_with_parent(me)
        print(os.getpid(), os.getppid() == me, flush=True)
        os.read(end, 1)
    else:
        os.read(end, 1) if sys.argv[1] == "late" else None
    os._exit(0)
if sys.argv[1] == "late":
    os.write(gate, b"x")
os.waitpid(middle, 0)
sys.stdin.read()
"""


@pytest.mark.parametrize("moment", ["at once", "late"])
def test_a_double_forked_child_dies_with_the_subreaper(moment: str) -> None:
    with program(FAMILY, moment) as started:
        pid, has_right_parent = line(started).split()
        assert has_right_parent == "True"
        pidfd = process.open_pidfd(int(pid))
        started.kill()
        assert is_ended(pidfd)
        os.close(pidfd)


def is_ended(pidfd: int) -> bool:
    """Wait for the end of any process, child or not."""
    return bool(select.select([pidfd], [], [], LIMIT_S)[0])


@pytest.mark.parametrize("wait_s", ["0", "0.01"])
def test_a_process_whose_parent_is_another_one_says_so(wait_s: str) -> None:
    text = """
import sys
from tsd import process
try:
    process.die_with_parent(2**22 + 1, wait_s=float(sys.argv[1]))
except ProcessLookupError as error:
    print(error.strerror)
"""
    with program(text, wait_s) as started:
        assert "is not the parent of process" in line(started)


def test_how_a_child_ended_is_told_once() -> None:
    with program("import sys; sys.stdin.read(); sys.exit(3)") as started:
        pidfd = process.open_pidfd(started.pid)
        assert process.wait_pidfd(pidfd) is None
        assert started.stdin is not None
        started.stdin.close()
        started.stdin = None
        assert is_ended(pidfd)
        assert process.wait_pidfd(pidfd) == ExitStatus(code=3)
        with pytest.raises(ChildProcessError):
            process.wait_pidfd(pidfd)
        assert process.send_signal(pidfd, signal.SIGTERM) is False
        os.close(pidfd)


def test_a_signal_reaches_the_process_of_its_pidfd() -> None:
    with program("import sys; sys.stdin.read()") as started:
        pidfd = process.open_pidfd(started.pid)
        assert process.send_signal(pidfd, signal.SIGKILL) is True
        assert is_ended(pidfd)
        assert process.wait_pidfd(pidfd) == ExitStatus(signal=signal.SIGKILL)
        os.close(pidfd)


def test_a_lock_ends_with_its_process(tmp_path: Path) -> None:
    text = """
import sys
from pathlib import Path
from tsd import process
held = process.lock_directory(Path(sys.argv[1]))
print("held", flush=True)
sys.stdin.read()
"""
    with program(text, str(tmp_path)) as started:
        assert line(started) == "held"
        with pytest.raises(StartupError, match=f"process {started.pid}, owns"):
            process.lock_directory(tmp_path)
        started.kill()
        started.wait()
        os.close(process.lock_directory(tmp_path))


INHERITING = """
import fcntl, os, sys
passed = [fcntl.fcntl(int(number), fcntl.F_DUPFD, 100) for number in sys.argv[2:]]
for place, descriptor in enumerate(passed, start=3):
    os.dup2(descriptor, place)
from tsd import systemd
from tsd.errors import StartupError
os.environ.update(LISTEN_PID=str(os.getpid()), LISTEN_FDS="2", LISTEN_FDNAMES=sys.argv[1])
try:
    found = systemd.inherited_sockets(systemd.environment())
except StartupError as error:
    print(error, "|", error.why)
else:
    for name, sockets in found.items():
        print(name, [(s.fileno(), s.family.name, s.get_inheritable()) for s in sockets])
        for s in sockets:
            s.close()
"""


def inheriting(names: str, *passed: int) -> list[str]:
    """What a process says that is started with these descriptors as 3 and 4."""
    command = [sys.executable, "-W", "error", "-c", INHERITING, names, *map(str, passed)]
    ran = subprocess.run(command, pass_fds=passed, capture_output=True, text=True, check=True)
    return ran.stdout.splitlines()


def test_listening_sockets_are_inherited_by_name(tmp_path: Path) -> None:
    with socket.socket() as tcp, socket.socket(socket.AF_UNIX) as unix, socket.socket() as other:
        tcp.bind(("127.0.0.1", 0))
        unix.bind(str(tmp_path / "socket"))
        tcp.listen()
        unix.listen()
        first, second = tcp.fileno(), unix.fileno()
        assert inheriting("http:control", first, second) == [
            "http [(3, 'AF_INET', False)]",
            "control [(4, 'AF_UNIX', False)]",
        ]
        assert inheriting("http:http", first, second) == [
            "http [(3, 'AF_INET', False), (4, 'AF_UNIX', False)]"
        ]
        (refusal,) = inheriting("http:other", first, other.fileno())
    assert refusal == (
        "descriptor 4, passed as 'other', is not for tsd | it is not a listening stream socket"
    )


def test_a_file_is_not_taken_for_a_socket(tmp_path: Path) -> None:
    with (tmp_path / "file").open("w") as file:
        (refusal,) = inheriting("x", file.fileno(), file.fileno())
    assert refusal.startswith("descriptor 3, passed as 'x', is not for tsd")


def test_the_service_manager_hears_what_it_is_told(tmp_path: Path) -> None:
    path = str(tmp_path / "notify")
    text = """
from tsd import systemd
told = systemd.notifier(systemd.environment())
told.ready("1 model")
told.stopping()
"""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(path)
        manager.settimeout(LIMIT_S)
        environment = systemd.environment().for_children() | {"NOTIFY_SOCKET": path}
        subprocess.run([sys.executable, "-c", text], env=environment, check=True)
        assert manager.recv(4096) == b"READY=1\nSTATUS=1 model"
        assert manager.recv(4096) == b"STOPPING=1"
