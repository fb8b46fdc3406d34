"""The relay of gRPC doors: servers follow each other on one listening socket, under load."""

from __future__ import annotations

import asyncio
import contextlib
import os
import resource
import socket
import threading
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterator
from itertools import count
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
import pytest
import uvloop

from tsd.grpc.relay import Relay
from tsd.http.listener import bind_tcp

METHOD = "/Echo/echo"
ROUNDS = 25
CALLS_PER_S = 100
CALLS_A_ROUND = 60
CHANNELS = 3
ANSWER_S = 0.02
LARGE = b"x" * 3_000_000
# Each channel has connections of its own.
OWN_CONNECTIONS = (("grpc.use_local_subchannel_pool", 1),)


@pytest.fixture
def listening() -> Iterator[socket.socket]:
    """A socket that outlives the servers, as systemd holds it."""
    with bind_tcp("127.0.0.1", 0, 4096) as bound:
        yield bound


async def echo(body: bytes) -> bytes:
    """A model that takes its time."""
    await asyncio.sleep(ANSWER_S)
    return body


@contextlib.asynccontextmanager
async def serving(
    listening: socket.socket,
    folder: Path,
    max_links: int = 100,
    answer: Callable[[bytes], Awaitable[bytes]] = echo,
) -> AsyncIterator[Relay]:
    """One server behind a relay; drained at the end."""

    async def handle(request: bytes, _call: Any) -> bytes:
        return await answer(request)

    server = grpc.aio.server(options=[("grpc.max_receive_message_length", -1)])
    handlers: Any = {"echo": grpc.unary_unary_rpc_method_handler(handle)}
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("Echo", handlers),))
    server.add_insecure_port(f"unix:{folder}/private")
    await server.start()
    relay = Relay(listening.dup(), folder / "private", max_links)
    relay.start()
    try:
        yield relay
        await relay.drain(30)
    finally:
        await server.stop(0)


def on_uvloop(main: Callable[[], Coroutine[None, None, None]]) -> None:
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(main())


class Load:
    """Calls at a constant rate on several channels, from threads of its own."""

    def __init__(self, port: int) -> None:
        self.verdict: Counter[str] = Counter()
        self._port = port
        self._is_over = threading.Event()
        self._threads = [threading.Thread(target=self._call) for _ in range(CHANNELS)]
        self._threads.append(threading.Thread(target=lambda: asyncio.run(self._call_aio())))

    def __enter__(self) -> Load:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._is_over.set()
        for thread in self._threads:
            thread.join()

    def _bodies(self) -> Iterator[bytes]:
        """A new one whenever it is time for the next call, by when that would be."""
        begun_at = time.monotonic()
        number = 0
        while not self._is_over.wait(begun_at + number / CALLS_PER_S - time.monotonic()):
            number += 1
            yield b"%d" % number

    def _call(self) -> None:
        with grpc.insecure_channel(f"127.0.0.1:{self._port}", OWN_CONNECTIONS) as channel:
            echo: Any = channel.unary_unary(METHOD)
            running = [(body, echo.future(body, timeout=60)) for body in self._bodies()]
            for body, call in running:
                error = call.exception()
                self._count(body, error if error else call.result())

    async def _call_aio(self) -> None:
        async with grpc.aio.insecure_channel(f"127.0.0.1:{self._port}", OWN_CONNECTIONS) as channel:
            echo: Any = channel.unary_unary(METHOD)

            async def call(body: bytes) -> None:
                try:
                    self._count(body, await echo(body, timeout=60))
                except grpc.aio.AioRpcError as error:
                    self._count(body, error)

            bodies, running = self._bodies(), []
            while (body := await asyncio.to_thread(next, bodies, None)) is not None:
                running.append(asyncio.ensure_future(call(body)))
            await asyncio.gather(*running)

    def _count(self, body: bytes, outcome: object) -> None:
        self.verdict["right" if outcome == body else f"wrong: {outcome!r:.300}"] += 1


def test_f31_no_call_is_lost_while_servers_follow_each_other(
    listening: socket.socket, tmp_path: Path
) -> None:
    async def main() -> None:
        for _ in range(ROUNDS):
            await one_round(listening, tmp_path)

    with Load(listening.getsockname()[1]) as load:
        on_uvloop(main)
        on_uvloop(lambda: last(listening, tmp_path, load))
    assert set(load.verdict) == {"right"}, load.verdict
    assert load.verdict["right"] >= ROUNDS * CALLS_A_ROUND


async def one_round(listening: socket.socket, folder: Path) -> None:
    """Serve until enough has been asked."""
    is_enough, calls = asyncio.Event(), count(1)

    async def answer(body: bytes) -> bytes:
        if next(calls) == CALLS_A_ROUND:
            is_enough.set()
        return await echo(body)

    async with serving(listening, folder, answer=answer):
        await is_enough.wait()


async def last(listening: socket.socket, folder: Path, load: Load) -> None:
    """Serve until all that was asked is answered."""
    async with serving(listening, folder):
        await asyncio.to_thread(load.__exit__)


def call(port: int, body: bytes) -> bytes:
    """One call by a client of its own."""
    with grpc.insecure_channel(f"127.0.0.1:{port}", OWN_CONNECTIONS) as channel:
        method: Any = channel.unary_unary(METHOD)
        answer: bytes = method(body, timeout=60)
        return answer


def test_large_messages_cross_whole(listening: socket.socket, tmp_path: Path) -> None:
    async def main() -> None:
        async with serving(listening, tmp_path):
            calls = [asyncio.to_thread(call, listening.getsockname()[1], LARGE) for _ in range(3)]
            assert await asyncio.gather(*calls) == [LARGE] * 3

    on_uvloop(main)


def test_clients_beyond_the_limit_wait_for_room(listening: socket.socket, tmp_path: Path) -> None:
    port = listening.getsockname()[1]

    async def main() -> None:
        async with serving(listening, tmp_path, max_links=1) as relay:
            with grpc.insecure_channel(f"127.0.0.1:{port}", OWN_CONNECTIONS) as channel:
                first: Any = channel.unary_unary(METHOD)
                assert await asyncio.to_thread(first, b"1") == b"1"
                second = asyncio.ensure_future(asyncio.to_thread(call, port, b"2"))
                assert await asyncio.to_thread(first, b"3") == b"3"
                assert not second.done()
                assert relay.calls == 2
            assert await second == b"2"

    on_uvloop(main)


def test_a_client_that_goes_has_its_call_cancelled(
    listening: socket.socket, tmp_path: Path
) -> None:
    begun, cancelled = asyncio.Event(), asyncio.Event()

    async def never(_body: bytes) -> bytes:
        begun.set()
        try:
            await asyncio.Event().wait()
        finally:
            cancelled.set()
        return b""

    async def main() -> None:
        async with serving(listening, tmp_path, answer=never) as relay:
            channel = grpc.insecure_channel(f"127.0.0.1:{listening.getsockname()[1]}")
            method: Any = channel.unary_unary(METHOD)
            running = method.future(b"")
            await begun.wait()
            assert relay.open_calls == 1
            await asyncio.to_thread(channel.close)
            await cancelled.wait()
            assert running.cancelled() or running.code() is not grpc.StatusCode.OK

    on_uvloop(main)


def test_a_client_that_does_not_speak_http_2_is_sent_away(
    listening: socket.socket, tmp_path: Path
) -> None:
    async def main() -> None:
        async with serving(listening, tmp_path) as relay:
            reader, writer = await asyncio.open_connection(*listening.getsockname())
            writer.write(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
            await reader.read()
            writer.close()
            assert relay.calls == 0

    on_uvloop(main)


@contextlib.contextmanager
def one_descriptor_left() -> Iterator[None]:
    """Nothing but one more can be opened meanwhile."""
    lowest_free = os.dup(0)
    os.close(lowest_free)
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (lowest_free + 1, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)


def test_f37_clients_wait_while_there_are_no_descriptors(
    listening: socket.socket, tmp_path: Path
) -> None:
    greeting = b"the server's greeting"

    async def greet(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"\0\0%c\4\0\0\0\0\0" % len(greeting) + greeting)
        await reader.read()
        writer.close()

    async def main() -> None:
        server = await asyncio.start_unix_server(greet, tmp_path / "private")
        relay = Relay(listening.dup(), tmp_path / "private", 100)
        streams = [await asyncio.open_connection(*listening.getsockname()) for _ in range(3)]
        with one_descriptor_left():
            relay.start()
            for _turn in range(20):
                await asyncio.sleep(0)
        for reader, writer in streams:
            assert (await reader.readexactly(9 + len(greeting))).endswith(greeting)
            writer.close()
        await relay.drain(30)
        server.close()

    on_uvloop(main)
