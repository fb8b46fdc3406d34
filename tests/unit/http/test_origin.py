"""Who is at the other end."""

from __future__ import annotations

import socket
import struct

from tests.unit.http.wire import Wire
from tsd.http.origin import PeerCredentials, origin_of


class UnixSocket:
    """A socket whose peer the kernel knows."""

    family = socket.AF_UNIX

    def getsockopt(self, level: int, name: int, size: int) -> bytes:
        assert (level, name, size) == (socket.SOL_SOCKET, socket.SO_PEERCRED, 12)
        return struct.pack("3i", 11, 22, 33)


class KnownWire(Wire):
    def __init__(self, **known: object) -> None:
        super().__init__()
        self.known = known

    def get_extra_info(self, name: str, default: object = None) -> object:
        return self.known.get(name, default)


def test_the_process_behind_a_unix_socket_is_known() -> None:
    origin = origin_of(KnownWire(socket=UnixSocket(), peername=""), "control")
    assert origin.peer == PeerCredentials(pid=11, uid=22, gid=33)
    assert (origin.door, origin.remote) == ("control", "unix")


def test_a_tcp_client_is_known_by_its_address() -> None:
    origin = origin_of(KnownWire(peername=("::1", 80, 0, 0)), "http")
    assert (origin.remote, origin.peer) == ("::1:80", None)


def test_a_client_that_has_gone_already_has_no_address() -> None:
    assert origin_of(KnownWire(), "http").remote == "unknown"
