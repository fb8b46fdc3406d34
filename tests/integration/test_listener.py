"""Listening sockets for real: bound, stale, in use; clients by TCP and by Unix sockets."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import stat
import time
from collections.abc import AsyncIterator, Callable, Coroutine
from pathlib import Path

import pytest
import uvloop

from tsd.errors import StartupError
from tsd.http.connection import Handler
from tsd.http.listener import Listener, bind_tcp, bind_unix
from tsd.http.message import Request, Response
from tsd.settings import HttpSettings

GET = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"
LOCAL = "127.0.0.1"
SIZE = 4 * 1024 * 1024


def on_uvloop(main: Callable[[], Coroutine[None, None, None]]) -> None:
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(main())


@contextlib.asynccontextmanager
async def listening(
    sock: socket.socket, handler: Handler, clock: Callable[[], float] = time.monotonic
) -> AsyncIterator[Listener]:
    """A listener that is drained at the end, and nothing had to be cut."""
    listener = Listener("http", HttpSettings(), handler, clock)
    await listener.start(sock)
    try:
        yield listener
        assert await listener.drain(5) == 0
    finally:
        listener.close()


def hello(request: Request) -> None:
    request.receive(lambda whole: whole.respond(Response(200, b"hello")))


async def asked(sock: socket.socket, sent: bytes) -> bytes:
    """What a client reads until the server closes."""
    loop = asyncio.get_running_loop()
    sock.settimeout(0)
    await loop.sock_sendall(sock, sent)
    sock.shutdown(socket.SHUT_WR)
    pieces = []
    while piece := await loop.sock_recv(sock, 1 << 20):
        pieces.append(piece)
    return b"".join(pieces)


def connected(address: object, family: int = socket.AF_INET) -> socket.socket:
    sock = socket.socket(family)
    sock.connect(address)  # type: ignore[arg-type]  # either family's address
    return sock


def test_clients_are_answered_by_tcp() -> None:
    async def main() -> None:
        bound = bind_tcp(LOCAL, 0, 16)
        async with listening(bound, hello):
            with connected(bound.getsockname()) as client:
                assert (await asked(client, GET)).endswith(b"hello")

    on_uvloop(main)


def test_a_bound_socket_need_not_listen_yet() -> None:
    async def main() -> None:
        inherited = socket.socket()
        inherited.bind((LOCAL, 0))
        async with listening(inherited, hello):
            with connected(inherited.getsockname()) as client:
                assert (await asked(client, GET)).endswith(b"hello")

    on_uvloop(main)


def test_clients_of_a_unix_socket_are_known_by_the_kernel(tmp_path: Path) -> None:
    seen: list[Request] = []

    def watch(request: Request) -> None:
        seen.append(request)
        hello(request)

    async def main() -> None:
        path = tmp_path / "http.sock"
        async with listening(bind_unix(path, 0o660, 16), watch):
            assert stat.S_IMODE(path.stat().st_mode) == 0o660
            with connected(str(path), socket.AF_UNIX) as client:
                assert (await asked(client, GET)).endswith(b"hello")

    on_uvloop(main)
    (request,) = seen
    assert request.peer == (os.getpid(), os.getuid(), os.getgid())
    assert (request.door, request.remote) == ("http", "unix")


def test_large_bodies_go_both_ways_and_are_given_back() -> None:
    body = os.urandom(SIZE)
    room = memoryview(bytearray(SIZE))
    freed: list[str] = []

    def back(request: Request) -> None:
        answer = Response(200, room, release=lambda: freed.append("free"))
        request.receive(lambda whole: whole.respond(answer), room)

    async def main() -> None:
        bound = bind_tcp(LOCAL, 0, 16)
        head = b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n" % SIZE
        async with listening(bound, back):
            with connected(bound.getsockname()) as client:
                assert (await asked(client, head + body)).endswith(body)

    on_uvloop(main)
    assert room == body
    assert freed == ["free"]


def test_a_refusal_reaches_a_client_that_is_still_sending() -> None:
    async def main() -> None:
        bound = bind_tcp(LOCAL, 0, 16)
        head = b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 9000000\r\n\r\n"
        async with listening(bound, hello) as listener:
            with connected(bound.getsockname()) as client:
                got = await asked(client, head + bytes(9_000_000))
            assert got.startswith(b"HTTP/1.1 413 ")
            assert listener.refusals == {413: 1}

    on_uvloop(main)


def test_who_has_just_connected_is_answered_though_draining() -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        bound = bind_tcp(LOCAL, 0, 16)
        async with listening(bound, hello) as listener:
            with connected(bound.getsockname()) as first, connected(bound.getsockname()) as late:
                first.settimeout(0)
                late.settimeout(0)
                first.send(GET)
                assert await loop.sock_recv(first, 1000)
                draining = asyncio.ensure_future(listener.drain(5))
                await asyncio.sleep(0)
                for client in (late, first):
                    client.send(GET)
                    assert b"connection: close" in await loop.sock_recv(client, 1000)
                    assert await loop.sock_recv(client, 1) == b""
                    client.close()
                assert await draining == 0

    on_uvloop(main)


def test_what_the_kernel_has_received_is_answered_though_draining() -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        bound = bind_tcp(LOCAL, 0, 16)
        async with listening(bound, hello) as listener:
            with connected(bound.getsockname()) as client, connected(bound.getsockname()) as idle:
                client.settimeout(0)
                idle.settimeout(0)
                client.send(GET)
                assert b"keep-alive" in await loop.sock_recv(client, 1000)
                client.send(GET)
                assert await listener.drain(5) == 0
                assert b"connection: close" in await loop.sock_recv(client, 1000)
                assert await loop.sock_recv(idle, 1) == b""

    on_uvloop(main)


def test_a_silent_client_is_swept_out_by_the_timer() -> None:
    instants = [0.0]

    async def main() -> None:
        loop = asyncio.get_running_loop()
        bound = bind_tcp(LOCAL, 0, 16)
        async with listening(bound, hello, lambda: instants[-1]):
            with connected(bound.getsockname()) as client, connected(bound.getsockname()) as other:
                client.settimeout(0)
                other.settimeout(0)
                await loop.sock_sendall(other, GET)
                # Accepted in order: when the second one is answered, the first one is there.
                assert await loop.sock_recv(other, 1000)
                instants.append(11.0)
                assert await loop.sock_recv(client, 1) == b""

    on_uvloop(main)


def test_a_port_in_use_is_told() -> None:
    with bind_tcp(LOCAL, 0, 1) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(StartupError, match=f"cannot listen on {LOCAL}:{port}") as caught:
            bind_tcp(LOCAL, port, 1)
    assert caught.value.why == "Address already in use"
    assert "stop the program" in caught.value.fix


def test_an_address_of_another_machine_is_told() -> None:
    with pytest.raises(StartupError) as caught:
        bind_tcp("192.0.2.1", 0, 1)
    assert caught.value.fix == "choose an address of this machine"


def test_the_socket_of_a_dead_server_is_replaced(tmp_path: Path) -> None:
    path = tmp_path / "http.sock"
    bind_unix(path, 0o600, 1).close()
    assert path.is_socket()
    with bind_unix(path, 0o600, 1), connected(str(path), socket.AF_UNIX):
        pass


def test_the_socket_of_a_live_server_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "http.sock"
    with bind_unix(path, 0o600, 1), pytest.raises(StartupError) as caught:
        bind_unix(path, 0o600, 1)
    assert caught.value.why == "another server answers on this socket"
    assert path.is_socket()


def test_a_file_that_is_no_socket_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "http.sock"
    path.write_text("mine")
    with pytest.raises(StartupError):
        bind_unix(path, 0o600, 1)
    assert path.read_text() == "mine"


def test_a_folder_that_is_missing_is_told(tmp_path: Path) -> None:
    with pytest.raises(StartupError) as caught:
        bind_unix(tmp_path / "missing" / "http.sock", 0o600, 1)
    assert caught.value.fix == "make the folder first"


def test_a_socket_that_cannot_be_asked_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "http.sock"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as other:
        other.bind(str(path))
        with pytest.raises(StartupError):
            bind_unix(path, 0o600, 1)
    assert path.is_socket()
