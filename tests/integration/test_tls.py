"""TLS doors for real: large bodies, pipelining, slow and broken clients, certificates renewed."""

from __future__ import annotations

import asyncio
import contextlib
import os
import ssl
import time
from collections.abc import AsyncIterator, Callable, Coroutine

import msgspec
import pytest
import uvloop

from tsd.http.connection import Connection, Handler
from tsd.http.listener import Listener, bind_tcp
from tsd.http.message import Request, Response
from tsd.settings import HttpSettings, TlsSettings
from tsd.tls import Identity, TlsDoor, read_identity

pytest.importorskip("cryptography")

LOCAL = "127.0.0.1"
GET = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"
SIZE = 8 * 1024 * 1024
Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]


@pytest.fixture(scope="module")
def identity() -> Identity:
    return read_identity(TlsSettings())


def trusting(identity: Identity | None = None) -> ssl.SSLContext:
    """A client that knows that certificate, or takes any."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    if identity is None:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    else:
        context.load_verify_locations(cadata=identity.certificate.decode())
    return context


def on_uvloop(main: Callable[[], Coroutine[None, None, None]]) -> None:
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(main())


@contextlib.asynccontextmanager
async def listening(
    identity: Identity,
    handler: Handler,
    limits: HttpSettings | None = None,
    clock: Callable[[], float] = time.monotonic,
) -> AsyncIterator[tuple[Listener, TlsDoor, int]]:
    listener, door = Listener("http", limits or HttpSettings(), handler, clock), TlsDoor(identity)
    bound = bind_tcp(LOCAL, 0, 16)
    port = bound.getsockname()[1]
    await listener.start(bound, door.context)
    try:
        yield listener, door, port
        assert await listener.drain(5) == 0
    finally:
        listener.close()


async def connected(port: int, context: ssl.SSLContext | None = None) -> Streams:
    return await asyncio.open_connection(
        LOCAL, port, ssl=context or trusting(), server_hostname="localhost", limit=1 << 24
    )


async def closed(writer: asyncio.StreamWriter) -> None:
    writer.close()
    with contextlib.suppress(OSError):
        await writer.wait_closed()


async def answer(reader: asyncio.StreamReader) -> tuple[bytes, bytes]:
    """The next answer's head and body."""
    head = await reader.readuntil(b"\r\n\r\n")
    length = int(head.partition(b"content-length: ")[2].partition(b"\r\n")[0])
    return head, await reader.readexactly(length)


def post(body: bytes, path: str = "/") -> bytes:
    head = f"POST {path} HTTP/1.1\r\nHost: a\r\nContent-Length: {len(body)}\r\n\r\n"
    return head.encode() + body


def hello(request: Request) -> None:
    request.receive(lambda whole: whole.respond(Response(200, b"hello")))


def mirror(request: Request) -> None:
    """The body goes to memory of the handler's and leaves from there without a copy."""
    room = memoryview(bytearray(request.content_length or 0))
    request.receive(lambda whole: whole.respond(Response(200, room)), room)


def test_a_client_that_knows_the_certificate_is_answered(identity: Identity) -> None:
    async def main() -> None:
        async with listening(identity, hello) as (_, _, port):
            reader, writer = await connected(port, trusting(identity))
            for _again in range(3):
                writer.write(GET)
                assert (await answer(reader))[1] == b"hello"
            await closed(writer)

    on_uvloop(main)


def test_large_bodies_go_both_ways_again_and_again(identity: Identity) -> None:
    async def main() -> None:
        limits = msgspec.structs.replace(HttpSettings(), max_request_bytes=2 * SIZE)
        async with listening(identity, mirror, limits) as (_, _, port):
            reader, writer = await connected(port)
            for size in (SIZE, 300_000, 1, SIZE + 1, 65_536, 262_144, 262_145):
                body = os.urandom(size)
                writer.write(post(body))
                assert (await answer(reader))[1] == body
            await closed(writer)

    on_uvloop(main)


def test_pipelined_requests_large_and_small_are_answered_in_order(identity: Identity) -> None:
    async def main() -> None:
        async with listening(identity, mirror) as (_, _, port):
            reader, writer = await connected(port)
            bodies = [os.urandom(size) for size in (1, 1 << 20, 0, 300_000, 17, 1 << 20)]
            writer.write(b"".join(post(body) for body in bodies))
            for body in bodies:
                assert (await answer(reader))[1] == body
            await closed(writer)

    on_uvloop(main)


def test_memory_of_a_large_answer_is_given_back_once_it_is_encrypted(identity: Identity) -> None:
    freed: list[str] = []

    def big(request: Request) -> None:
        body = memoryview(bytearray(SIZE))
        answer = Response(200, body, release=lambda: freed.append("free"))
        request.receive(lambda whole: whole.respond(answer))

    async def main() -> None:
        async with listening(identity, big) as (_, _, port):
            reader, writer = await connected(port)
            writer.write(GET)
            assert len((await answer(reader))[1]) == SIZE
            assert freed == ["free"]
            writer.write(GET)
            await reader.read(1)
            # Gone in the middle of the second one: its memory comes back, too.
            writer.transport.abort()
            await until(lambda: len(freed) == 2)

    on_uvloop(main)


def test_a_client_that_reads_nothing_is_cut_off(identity: Identity) -> None:
    instants = [0.0]
    freed: list[str] = []

    def big(request: Request) -> None:
        body = memoryview(bytearray(8 * SIZE))
        answer = Response(200, body, release=lambda: freed.append("free"))
        request.receive(lambda whole: whole.respond(answer))

    async def main() -> None:
        async with listening(identity, big, clock=lambda: instants[-1]) as (listener, _, port):
            _, writer = await connected(port)
            writer.transport.pause_reading()  # type: ignore[attr-defined]
            writer.write(GET)
            connection = await first_connection(listener)
            await until(lambda: connection.is_congested)
            assert freed == []
            listener.sweep()
            instants.append(31.0)
            listener.sweep()
            await until(lambda: not listener.connections)
            assert freed == ["free"]
            writer.transport.abort()

    on_uvloop(main)


async def until(holds: Callable[[], bool]) -> None:
    """Let the loop turn until it is so."""
    async with asyncio.timeout(10):
        while not holds():  # noqa: ASYNC110 (nobody tells the test)
            await asyncio.sleep(0)


async def first_connection(listener: Listener) -> Connection:
    await until(lambda: bool(listener.connections))
    return next(iter(listener.connections))


def test_a_refusal_reaches_a_client_that_is_still_sending(identity: Identity) -> None:
    async def main() -> None:
        async with listening(identity, hello) as (listener, _, port):
            reader, writer = await connected(port)
            head = b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 9000000\r\n\r\n"
            writer.write(head + bytes(9_000_000))
            assert (await reader.readline()).startswith(b"HTTP/1.1 413 ")
            assert listener.refusals == {413: 1}
            await closed(writer)

    on_uvloop(main)


def test_what_is_no_tls_gets_no_answer_and_harms_nobody(identity: Identity) -> None:
    async def main() -> None:
        async with listening(identity, hello) as (listener, _, port):
            plain, sender = await asyncio.open_connection(LOCAL, port)
            sender.write(GET)
            assert b"HTTP/" not in await plain.read()
            assert not listener.connections
            await closed(sender)
            reader, writer = await connected(port)
            writer.write(GET)
            assert (await answer(reader))[1] == b"hello"
            await closed(writer)

    on_uvloop(main)


def test_a_handshake_that_is_not_finished_holds_no_slot_and_ends(identity: Identity) -> None:
    async def main() -> None:
        limits = msgspec.structs.replace(HttpSettings(), max_connections=1, header_timeout_s=0.2)
        async with listening(identity, hello, limits) as (listener, _, port):
            silent, sender = await asyncio.open_connection(LOCAL, port)
            reader, writer = await connected(port)
            writer.write(GET)
            assert (await answer(reader))[1] == b"hello"
            assert len(listener.connections) == 1
            assert await silent.read() == b""
            await closed(sender)
            await closed(writer)

    on_uvloop(main)


def test_a_client_that_ends_its_side_is_gone(identity: Identity) -> None:
    async def main() -> None:
        lost: list[str] = []

        def never(request: Request) -> None:
            request.on_disconnect = lambda: lost.append("lost")

        async with listening(identity, never) as (listener, _, port):
            _, writer = await connected(port)
            writer.write(GET)
            await first_connection(listener)
            await closed(writer)
            await until(lambda: not listener.connections)
            assert lost == ["lost"]

    on_uvloop(main)


def test_a_renewed_certificate_is_shown_to_the_next_client(identity: Identity) -> None:
    async def main() -> None:
        async with listening(identity, hello) as (_, door, port):
            _, writer = await connected(port, trusting(identity))
            renewed = read_identity(TlsSettings())
            door.renew(renewed)
            with pytest.raises(ssl.SSLCertVerificationError):
                await connected(port, trusting(identity))
            reader, second = await connected(port, trusting(renewed))
            second.write(GET)
            assert (await answer(reader))[1] == b"hello"
            await closed(second)
            await closed(writer)

    on_uvloop(main)


def test_old_versions_of_tls_are_refused(identity: Identity) -> None:
    async def main() -> None:
        async with listening(identity, hello) as (_, _, port):
            context = trusting()
            with pytest.warns(DeprecationWarning, match="TLSv1_1"):
                context.maximum_version = ssl.TLSVersion.TLSv1_1
            with pytest.raises((ssl.SSLError, OSError)):
                await connected(port, context)

    on_uvloop(main)


def test_a_client_in_its_handshake_is_answered_before_the_end(identity: Identity) -> None:
    async def main() -> None:
        async with listening(identity, hello) as (listener, _, port):
            slow_reader, slow_writer = await asyncio.open_connection(LOCAL, port)
            # Who comes later is accepted later.
            reader, writer = await connected(port)
            writer.write(GET)
            await answer(reader)
            await closed(writer)
            while listener.connections:  # noqa: ASYNC110 (nothing tells it)
                await asyncio.sleep(0)
            draining = asyncio.ensure_future(listener.drain(5))
            await asyncio.sleep(0)
            await asyncio.sleep(0)
            assert not draining.done()
            await slow_writer.start_tls(trusting(), server_hostname="localhost")
            slow_writer.write(GET)
            head, body = await answer(slow_reader)
            assert body == b"hello"
            assert b"connection: close" in head
            await closed(slow_writer)
            assert await draining == 0

    on_uvloop(main)
