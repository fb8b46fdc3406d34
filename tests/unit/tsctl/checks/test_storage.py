"""The state directory, room on disk, room in memory."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from tests.unit.tsctl.made_up import PASSWD, STATUS, MadeUp
from tsctl.checks import storage

GIB = 1024**3
DESIRED = "/var/lib/tsd/desired-state.json"


def test_a_state_directory_with_a_desired_state_is_good(made_up: MadeUp) -> None:
    made_up.file(DESIRED, '{"format": 1, "models": {"digits": {}}}')
    found = storage.state_directory(made_up.machine())
    assert (found.ok, found.text) == (True, "/var/lib/tsd, desired state of 1 models")


def test_one_without_a_desired_state_is_new(made_up: MadeUp) -> None:
    assert "no model was registered yet" in storage.state_directory(made_up.machine()).text


def test_the_daemon_says_where_it_is(made_up: MadeUp) -> None:
    made_up.status = {**STATUS, "state_dir": "/srv/elsewhere"}
    found = storage.state_directory(made_up.machine())
    assert found.ok is None
    assert found.text.startswith("/srv/elsewhere is not there")


@pytest.mark.parametrize("text", ["", "{", "[]", '{"format": 1}', '{"models": 3}', "\x00"])
def test_a_desired_state_that_is_damaged_is_wrong(made_up: MadeUp, text: str) -> None:
    made_up.file(DESIRED, text)
    found = storage.state_directory(made_up.machine())
    assert found.ok is False
    assert "cannot be read" in found.text
    assert "desired-state.previous" in found.fix


def test_what_a_handler_puts_in_its_place_keeps_nobody_waiting(made_up: MadeUp) -> None:
    path = made_up.folder("/var/lib/tsd") / "desired-state.json"
    os.mkfifo(path)
    assert "cannot be read: JSONDecodeError" in storage.state_directory(made_up.machine()).text
    path.unlink()
    path.symlink_to("/dev/zero")
    assert "cannot be read" in storage.state_directory(made_up.machine()).text
    path.unlink()
    made_up.file(DESIRED, "[" * 1_000_000)
    assert "cannot be read: RecursionError" in storage.state_directory(made_up.machine()).text


def test_one_that_was_set_aside_is_told(made_up: MadeUp) -> None:
    made_up.file("/var/lib/tsd/desired-state.bad")
    found = storage.state_directory(made_up.machine())
    assert (found.ok, found.text) == (False, "a damaged desired state was set aside")


def test_a_directory_of_somebody_else_is_wrong(made_up: MadeUp) -> None:
    made_up.file("/etc/passwd", PASSWD.replace(":990:990:", f":{os.getuid() + 1}:990:"))
    found = storage.state_directory(made_up.machine())
    assert found.ok is False
    assert found.fix == "sudo chown -R tsd: /var/lib/tsd"


@pytest.mark.parametrize(("mode", "fix"), [(0o777, "chmod go-w"), (0o555, "chmod u+rwx")])
def test_modes_let_the_daemon_write_and_nobody_else(made_up: MadeUp, mode: int, fix: str) -> None:
    made_up.folder("/var/lib/tsd").chmod(mode)
    found = storage.state_directory(made_up.machine())
    assert found.ok is False
    assert fix in found.fix


def test_a_file_in_its_place_is_wrong(made_up: MadeUp) -> None:
    made_up.folder("/var/lib/tsd").rmdir()
    made_up.file("/var/lib/tsd")
    assert storage.state_directory(made_up.machine()).text == "/var/lib/tsd is no directory"


def room(**others: int) -> Any:
    """What statvfs would say: a gibibyte is 1024 blocks of one mebibyte."""
    found = {"bavail": 8192, "frsize": 1024**2, "files": 10**6, "favail": 10**6, "flag": 0} | others

    def statvfs(_: Path) -> os.statvfs_result:
        return os.statvfs_result(
            (
                *(found["frsize"], found["frsize"], 10**6, found["bavail"], found["bavail"]),
                *(found["files"], found["favail"], found["favail"], found["flag"], 255),
            )
        )

    return statvfs


def test_room_on_disk_is_good(made_up: MadeUp) -> None:
    found = storage.disk(made_up.machine(space=room()))
    assert found.ok is True
    assert found.text == "8.0 GiB free for /var/lib/tsd, 8.0 GiB free for /var/cache/tsd"
    assert storage.disk(made_up.machine(space=room(files=0, favail=0))).ok is True


@pytest.mark.parametrize(
    ("others", "text"),
    [
        ({"bavail": 500}, "500.0 MiB free for /var/lib/tsd"),
        ({"favail": 3}, "room for 3 more files only in /var/lib/tsd"),
        ({"flag": os.ST_RDONLY}, "/var/lib/tsd is on a read-only file system"),
    ],
)
def test_too_little_room_is_wrong(made_up: MadeUp, others: dict[str, int], text: str) -> None:
    found = storage.disk(made_up.machine(space=room(**others)))
    assert found.ok is False
    assert found.text.startswith(text)
    assert found.fix


def test_a_disk_that_cannot_be_asked_is_not_seen(made_up: MadeUp) -> None:
    def refuse(_: Path) -> os.statvfs_result:
        raise PermissionError(13, "Permission denied")

    found = storage.disk(made_up.machine(space=refuse))
    assert (found.ok, found.text.split(", ")[0]) == (None, "/var/lib/tsd: Permission denied")


@pytest.mark.parametrize(("kib", "ok"), [(4_000_000, True), (100_000, False)])
def test_memory_is_what_is_available(made_up: MadeUp, kib: int, *, ok: bool) -> None:
    made_up.file("/proc/meminfo", f"MemTotal: 1 kB\nMemAvailable: {kib} kB\n")
    assert storage.memory(made_up.machine()).ok is ok


def test_memory_may_be_unknown(made_up: MadeUp) -> None:
    made_up.file("/proc/meminfo")
    assert storage.memory(made_up.machine()).ok is None
