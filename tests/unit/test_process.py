"""What the kernel says about this very process; tests/integration has those that need another."""

from __future__ import annotations

import os
import stat
import threading
from pathlib import Path

import pytest

from tsd import process
from tsd.errors import StartupError
from tsd.process import ExitStatus


def test_an_exit_status_reads_well() -> None:
    assert str(ExitStatus(signal=9)) == "killed by SIGKILL"
    assert str(ExitStatus(code=3)) == "exit status 3"
    assert str(ExitStatus(signal=35)) == "killed by signal 35"


def test_one_owner_of_a_runtime_directory_at_a_time(tmp_path: Path) -> None:
    path = tmp_path / "made" / "tsd"
    held = process.lock_directory(path)
    with pytest.raises(StartupError, match=f"process {os.getpid()}, owns"):
        process.lock_directory(path)
    os.close(held)
    os.close(process.lock_directory(path))


def test_a_lock_left_by_a_dead_daemon_is_no_hindrance(tmp_path: Path) -> None:
    (tmp_path / "lock").write_text("123456789\n")
    held = process.lock_directory(tmp_path)
    assert (tmp_path / "lock").read_text() == f"{os.getpid()}\n"
    os.close(held)


def test_the_lock_closes_on_exec_and_is_nobody_elses_to_read(tmp_path: Path) -> None:
    held = process.lock_directory(tmp_path)
    assert not os.get_inheritable(held)
    assert stat.S_IMODE(os.fstat(held).st_mode) == 0o600
    os.close(held)


@pytest.mark.parametrize("below", ["file", "file/tsd"])
def test_a_file_in_the_way_is_named(tmp_path: Path, below: str) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(StartupError, match="cannot be used") as caught:
        process.lock_directory(tmp_path / below)
    assert str(tmp_path) in caught.value.why


def test_a_link_is_not_followed_as_lock(tmp_path: Path) -> None:
    (tmp_path / "lock").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(StartupError, match="cannot be used"):
        process.lock_directory(tmp_path)
    assert not (tmp_path / "elsewhere").exists()


def test_threads_are_counted() -> None:
    before = process.thread_count()
    leave = threading.Event()
    thread = threading.Thread(target=leave.wait)
    thread.start()
    assert process.thread_count() == before + 1
    leave.set()
    thread.join()


def test_the_size_of_a_process() -> None:
    assert process.rss_bytes(os.getpid()) > 1_000_000


def test_a_process_that_is_gone_has_no_size() -> None:
    beyond_every_pid = 2**22 + 1
    assert process.rss_bytes(beyond_every_pid) == 0
