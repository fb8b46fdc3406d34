"""The Unix sockets, and who holds the TCP ports."""

from __future__ import annotations

import os
import stat

import pytest

from tests.unit.tsctl.made_up import STATUS, MadeUp
from tsctl.checks import doors
from tsctl.failure import Failure, Status
from tsctl.machine import SYSTEM_SOCKET

HTTP_SOCKET = "/run/tsd/http.sock"
HEAD = "sl local_address rem_address st tx_queue:rx_queue tr:tm->when retrnsmt uid timeout inode\n"
AWAY = Failure(Status.UNREACHABLE, "cannot reach it", "no such socket")


def make_socket(made_up: MadeUp, name: str, mode: int) -> None:
    path = made_up.root / name.lstrip("/")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.unlink(missing_ok=True)
    os.mknod(path, stat.S_IFSOCK)
    path.chmod(mode)


def with_sockets(made_up: MadeUp, *listening: str) -> MadeUp:
    make_socket(made_up, SYSTEM_SOCKET, 0o660)
    make_socket(made_up, HTTP_SOCKET, 0o666)
    rows = [f"0: 00000002 00000000 00010000 0001 01 12345 {name}\n" for name in listening]
    made_up.file(
        "/proc/net/unix", "Num RefCount Protocol Flags Type St Inode Path\n" + "".join(rows)
    )
    # The test's own group stands for that of the operators.
    made_up.file("/etc/group", f"tsd-admin:x:{os.getgid()}:\n")
    return made_up


def test_sockets_at_which_somebody_listens_are_good(made_up: MadeUp) -> None:
    with_sockets(made_up, SYSTEM_SOCKET, HTTP_SOCKET)
    found = doors.sockets(made_up.machine())
    assert (found.ok, found.text) == (True, f"{SYSTEM_SOCKET}, {HTTP_SOCKET}")


def test_a_missing_socket_is_opened_again(made_up: MadeUp) -> None:
    (with_sockets(made_up, SYSTEM_SOCKET).root / HTTP_SOCKET.lstrip("/")).unlink()
    found = doors.sockets(made_up.machine())
    assert (found.ok, found.text) == (False, f"{HTTP_SOCKET} is missing")
    assert "systemctl restart" in found.fix


def test_a_socket_that_nobody_listens_at_is_wrong(made_up: MadeUp) -> None:
    found = doors.sockets(with_sockets(made_up, HTTP_SOCKET).machine())
    assert (found.ok, found.text) == (False, f"nobody listens at {SYSTEM_SOCKET}")


def test_a_file_in_a_sockets_place_is_wrong(made_up: MadeUp) -> None:
    path = with_sockets(made_up, SYSTEM_SOCKET, HTTP_SOCKET).root / HTTP_SOCKET.lstrip("/")
    path.unlink()
    path.touch()
    assert doors.sockets(made_up.machine()).text == f"{HTTP_SOCKET} is no socket"


def test_modes_and_groups_are_those_of_the_units(made_up: MadeUp) -> None:
    with_sockets(made_up, SYSTEM_SOCKET, HTTP_SOCKET)
    make_socket(made_up, HTTP_SOCKET, 0o600)
    found = doors.sockets(made_up.machine())
    assert (found.ok, found.text) == (False, f"{HTTP_SOCKET} has mode 0600, not 0666")
    made_up.file("/etc/group", f"tsd-admin:x:{os.getgid() + 1}:\n")
    found = doors.sockets(made_up.machine())
    assert f"belongs to group {os.getgid()}, not tsd-admin" in found.text
    assert "tsd-control.socket" in found.fix


def test_without_a_unit_the_daemons_own_modes_count(made_up: MadeUp) -> None:
    with_sockets(made_up, SYSTEM_SOCKET, HTTP_SOCKET).without_systemd()
    make_socket(made_up, SYSTEM_SOCKET, 0o600)
    assert doors.sockets(made_up.machine()).ok is True
    made_up.status = AWAY
    assert doors.sockets(made_up.machine()).ok is None


def test_a_daemon_that_answers_has_its_ports(made_up: MadeUp) -> None:
    found = doors.ports(made_up.machine())
    assert (found.ok, found.text) == (True, "http 127.0.0.1:8080")
    made_up.status = {**STATUS, "doors": []}
    assert doors.ports(made_up.machine()).text == "none"


def held(made_up: MadeUp, port: int, uid: int = 1001, name: str = "tcp") -> MadeUp:
    made_up.status = AWAY
    # The second row is a connection to that port: nobody listens by it.
    made_up.file(
        f"/proc/net/{name}",
        f"{HEAD}0: 0100007F:{port:04X} 00000000:0000 0A 0:0 00:0 0 {uid} 0 777 1\n"
        f"1: 0100007F:{port + 1:04X} 0100007F:9999 01 0:0 00:0 0 {uid} 0 778 1\n",
    )
    return made_up


def by(made_up: MadeUp, name: str) -> MadeUp:
    made_up.file("/proc/99/comm", f"{name}\n")
    made_up.folder("/proc/99/fd")
    (made_up.root / "proc/99/fd/4").symlink_to("socket:[777]")
    return made_up


def test_a_free_port_is_good(made_up: MadeUp) -> None:
    found = doors.ports(held(made_up, 8079).machine())
    assert (found.ok, found.text) == (True, "8080 (http) is free")


@pytest.mark.parametrize("table", ["tcp", "tcp6"])
def test_a_port_that_another_program_has_is_wrong(made_up: MadeUp, table: str) -> None:
    found = doors.ports(by(held(made_up, 8080, name=table), "java").machine())
    assert (found.ok, found.text) == (False, "8080 (http) is taken by java (99)")
    assert "doors.http" in found.fix


@pytest.mark.parametrize("name", ["systemd", "tsd"])
def test_a_port_that_waits_for_tsd_is_good(made_up: MadeUp, name: str) -> None:
    assert doors.ports(by(held(made_up, 8080), name).machine()).ok is True


def test_whose_processes_are_not_to_be_seen_is_told_by_its_user(made_up: MadeUp) -> None:
    found = doors.ports(held(made_up, 8080).machine())
    assert (found.ok, found.text) == (None, "8080 (http) is held by a process of user 1001")
    assert "sudo tsctl doctor" in found.fix
    assert doors.ports(held(made_up, 8080, uid=0).machine()).ok is True


def test_without_settings_the_default_ports_are_looked_at(made_up: MadeUp) -> None:
    made_up.status = AWAY
    made_up.programs.pop("tsd")
    text = doors.ports(made_up.machine()).text
    assert text == "8080 (http) is free, 7070 (grpc) is free, 8082 (metrics) is free"


@pytest.mark.parametrize(
    ("address", "port"),
    [
        ("127.0.0.1:8080", 8080),
        ("https://[::1]:8443", 8443),
        ("/run/x:80", 0),
        ("none", 0),
        ("127.0.0.1:0", 0),
    ],
)
def test_the_port_of_an_address(address: str, port: int) -> None:
    assert doors.port_of(address) == port
