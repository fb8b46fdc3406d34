"""Limits of the daemon's process, and the groups of the caller."""

from __future__ import annotations

import pytest

from tests.unit.tsctl.checks.test_gpu import with_driver
from tests.unit.tsctl.made_up import GROUP, MadeUp
from tsctl.checks import limits
from tsctl.failure import Failure, Status
from tsctl.machine import Account

LIMITS = """Limit                     Soft Limit           Hard Limit           Units
Max open files            {files:<20} 1048576              files
Max locked memory         {memlock:<20} unlimited            bytes
"""


def with_limits(made_up: MadeUp, files: str = "65536", memlock: str = "unlimited") -> MadeUp:
    made_up.file("/proc/4711/limits", LIMITS.format(files=files, memlock=memlock))
    return made_up


def test_the_limits_of_the_process_count_before_those_of_the_unit(made_up: MadeUp) -> None:
    made_up.service |= {"LimitNOFILE": "1024", "LimitMEMLOCK": "8192"}
    machine = with_driver(with_limits(made_up)).machine()
    assert limits.memlock(machine).text == "not limited"
    assert limits.open_files(machine).text == "65536"


def test_locked_memory_matters_with_a_gpu(made_up: MadeUp) -> None:
    with_limits(made_up, memlock="8388608")
    assert limits.memlock(made_up.machine()).ok is True
    found = limits.memlock(with_driver(made_up).machine())
    assert found.ok is False
    assert found.text.startswith("8192 KiB may be locked")
    assert "LimitMEMLOCK=infinity" in found.fix


def test_few_files_are_too_few(made_up: MadeUp) -> None:
    found = limits.open_files(with_limits(made_up, files="1024").machine())
    assert found.ok is False
    assert found.fix.startswith("sudo systemctl edit tsd")
    made_up.without_systemd()
    assert "ulimit" in limits.open_files(made_up.machine()).fix


def test_without_a_process_the_units_limits_are_those_to_come(made_up: MadeUp) -> None:
    assert limits.open_files(made_up.machine()).text == "65536"
    assert limits.memlock(made_up.machine()).text == "not limited"


def test_without_both_there_is_nothing_to_read(made_up: MadeUp) -> None:
    made_up.without_systemd()
    made_up.status = Failure(Status.UNREACHABLE, "away")
    assert limits.open_files(made_up.machine()).ok is None
    assert limits.memlock(made_up.machine()).ok is None


@pytest.mark.parametrize(
    ("uid", "gids", "ok"), [(0, {0}, True), (1001, {995}, True), (1001, {1001}, False)]
)
def test_an_operator_is_root_or_in_the_group(
    made_up: MadeUp, uid: int, gids: set[int], *, ok: bool
) -> None:
    made_up.file("/etc/group", GROUP.replace("995:alice", "995:"))
    found = limits.groups(made_up.machine(caller=Account("alice", uid, frozenset(gids))))
    assert found.ok is ok
    assert ok or "usermod -aG tsd-admin alice" in found.fix


def test_who_joined_since_is_to_log_in_again(made_up: MadeUp) -> None:
    found = limits.groups(made_up.machine(caller=Account("alice", 1001, frozenset({1001}))))
    assert (found.ok, found.fix) == (False, "log in again")


def test_the_daemons_user_is_to_be_there(made_up: MadeUp) -> None:
    made_up.file("/etc/passwd", "root:x:0:0::/:/\n")
    found = limits.groups(made_up.machine())
    assert (found.ok, found.text) == (False, "there is no user tsd")


def test_without_the_group_or_with_a_users_daemon_there_are_no_operators(made_up: MadeUp) -> None:
    assert limits.groups(made_up.machine(socket="/tmp/control.sock")).ok is None
    made_up.file("/etc/group", "root:x:0:\nbroken line\n")
    assert limits.groups(made_up.machine()).ok is None
