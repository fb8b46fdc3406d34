"""A steady load from outside: so many requests a second, whatever becomes of them.

Run by the host's interpreter in the machine's network, until its standard input is closed or it is
told to end; then it prints what it saw, as JSON. A line comes first when every protocol has been
answered. The pace is open: a request leaves at its time though others still wait, as those of real
clients do, so a gap in the service shows as what it costs them.

Each request carries a number that its answer must give back. A request that was sent and not
answered is lost; one that got no connection, or an error for an answer, is refused."""

from __future__ import annotations

import argparse
import asyncio
import itertools
import json
import resource
import signal
import sys
from collections import Counter, deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import cast

import grpc
import uvloop

from tsd.grpc.protos import inference_pb2

PREDICTIONS = "/org.pytorch.serve.grpc.inference.InferenceAPIsService/Predictions"
GRPC_CHANNELS = 4
ANSWER_S = 60.0
"""An answer that takes longer is lost."""
SHOWN_ERRORS = 10

Connect = Callable[[Callable[[], "Connection"]], Awaitable[object]]
Ask = Callable[[bytes], Awaitable[bytes]]


class Lost(Exception):
    """No answer, though the request was sent."""


class Refused(Exception):
    """No connection, or an answer that is an error."""


class ClosedIdle(Exception):
    """A kept connection was closed before any byte of the answer: RFC 9112 9.3.1."""


class Connection(asyncio.Protocol):
    """One HTTP/1.1 connection: one request at a time, kept as long as the server keeps it."""

    def __init__(self) -> None:
        self.is_open = False
        self.was_used = False
        self._transport: asyncio.Transport | None = None
        self._received = b""
        self._answer: asyncio.Future[bytes] | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's is one, too, but not by inheritance.
        self._transport, self.is_open = cast(asyncio.Transport, transport), True

    def connection_lost(self, error: Exception | None) -> None:
        self.is_open = False
        if self._answer and not self._answer.done():
            is_idle_close = self.was_used and not self._received
            kind = ClosedIdle if is_idle_close else Lost
            self._answer.set_exception(kind(f"connection closed: {error}, {self._received[:80]!r}"))

    def data_received(self, data: bytes) -> None:
        self._received += data
        head, is_whole, body = self._received.partition(b"\r\n\r\n")
        if not is_whole:
            return
        fields = head.lower()
        length = int(fields.partition(b"content-length:")[2].partition(b"\r\n")[0])
        if len(body) < length:
            return
        self.was_used, self._received = True, b""
        if b"connection: close" in fields:
            self.close()
        if self._answer and not self._answer.done():
            self._settle(self._answer, int(head.split(b" ", 2)[1]), body)

    def ask(self, request: bytes) -> asyncio.Future[bytes]:
        """The body of the answer."""
        assert self._transport is not None
        self._answer = asyncio.get_running_loop().create_future()
        self._transport.write(request)
        return self._answer

    def close(self) -> None:
        """No more requests by this one."""
        self.is_open = False
        assert self._transport is not None
        self._transport.close()

    @staticmethod
    def _settle(answer: asyncio.Future[bytes], status: int, body: bytes) -> None:
        if status == 200:
            answer.set_result(body)
        else:
            answer.set_exception(Refused(f"{status} {body[:200]!r}"))


class HttpClient:
    """As many kept connections as requests are under way at once."""

    def __init__(self, model: str, connect: Connect) -> None:
        self.idle_closes = 0
        self._path = f"/predictions/{model}"
        self._connect = connect
        self._idle: deque[Connection] = deque()

    async def ask(self, body: bytes) -> bytes:
        """One request, made once more by a new connection where the kept one had been closed."""
        head = f"POST {self._path} HTTP/1.1\r\nHost: tsd\r\nContent-Length: {len(body)}\r\n\r\n"
        request = head.encode() + body
        while self._idle:
            connection = self._idle.pop()
            if connection.is_open:
                try:
                    return await self._ask_by(connection, request)
                except ClosedIdle:
                    self.idle_closes += 1
                    break
        return await self._ask_by(await self._new(), request)

    async def _new(self) -> Connection:
        connection = Connection()
        try:
            await self._connect(lambda: connection)
        except OSError as error:
            raise Refused(f"no connection: {error}") from error
        return connection

    async def _ask_by(self, connection: Connection, request: bytes) -> bytes:
        answer = await connection.ask(request)
        if connection.is_open:
            self._idle.append(connection)
        return answer


class GrpcClient:
    """Calls in turn over a few channels, each with connections of its own."""

    def __init__(self, model: str, target: str) -> None:
        self._model = model
        options = (("grpc.use_local_subchannel_pool", 1),)
        channels = [grpc.aio.insecure_channel(target, options) for _ in range(GRPC_CHANNELS)]
        self._methods = itertools.cycle(
            [
                channel.unary_unary(
                    PREDICTIONS,
                    request_serializer=inference_pb2.PredictionsRequest.SerializeToString,
                    response_deserializer=inference_pb2.PredictionResponse.FromString,
                )
                for channel in channels
            ]
        )

    async def ask(self, body: bytes) -> bytes:
        """One call, made once: grpc itself repeats what no server has seen."""
        request = inference_pb2.PredictionsRequest(model_name=self._model, input={"data": body})
        try:
            answer = await next(self._methods)(request)
        except grpc.aio.AioRpcError as error:
            details = f"{error.code().name}: {error.details()}"
            is_lost = error.code() in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED)
            raise (Lost if is_lost else Refused)(details) from error
        return bytes(answer.prediction)


@dataclass
class Seen:
    """What became of the requests of one protocol."""

    sent: int = 0
    ok: int = 0
    lost: int = 0
    refused: int = 0
    wrong: int = 0
    slowest_s: float = 0.0
    longest_gap_s: float = 0.0
    errors: Counter[str] = field(default_factory=Counter)
    last_at: float = 0.0

    def right(self, began_at: float, now: float) -> None:
        self.ok += 1
        self.slowest_s = max(self.slowest_s, now - began_at)
        if self.last_at:
            self.longest_gap_s = max(self.longest_gap_s, now - self.last_at)
        self.last_at = now

    def note(self, error: str) -> None:
        if error in self.errors or len(self.errors) < SHOWN_ERRORS:
            self.errors[error] += 1

    def told(self) -> dict[str, object]:
        """The same for JSON."""
        return {name: value for name, value in vars(self).items() if name != "last_at"}


class Load:
    """Requests at an even pace, to each protocol in turn."""

    def __init__(self, rate: float, clients: dict[str, Ask]) -> None:
        self.seen = {name: Seen() for name in clients}
        self.latest_s = 0.0
        self._rate = rate
        self._clients = clients
        self._answered = asyncio.Event()

    async def run(self, is_over: asyncio.Event) -> None:
        """Send until it is over, then wait for what is under way."""
        async with asyncio.TaskGroup() as requests:
            sending = requests.create_task(self._send(requests))
            await is_over.wait()
            sending.cancel()

    async def every_protocol_answered(self) -> None:
        """Return when each of them has given a right answer."""
        await self._answered.wait()

    def account(self) -> dict[str, object]:
        """What to print; `latest_s` tells how far behind its own pace it ever was."""
        cpu = resource.getrusage(resource.RUSAGE_SELF)
        return {
            "latest_s": self.latest_s,
            "cpu_s": cpu.ru_utime + cpu.ru_stime,
            "protocols": {name: seen.told() for name, seen in self.seen.items()},
        }

    async def _send(self, requests: asyncio.TaskGroup) -> None:
        """Each request at its time."""
        loop = asyncio.get_running_loop()
        begin, turns = loop.time(), itertools.cycle(self._clients.items())
        for number in itertools.count():
            due = begin + number / self._rate
            await asyncio.sleep(due - loop.time())
            self.latest_s = max(self.latest_s, loop.time() - due)
            name, ask = next(turns)
            requests.create_task(self._follow(self.seen[name], ask, b"%d" % number))

    async def _follow(self, seen: Seen, ask: Ask, body: bytes) -> None:
        loop = asyncio.get_running_loop()
        began_at = loop.time()
        seen.sent += 1
        try:
            async with asyncio.timeout(ANSWER_S):
                answer = await ask(body)
        except Refused as error:
            seen.refused += 1
            seen.note(f"refused: {error}")
        except (Lost, ClosedIdle, TimeoutError) as error:
            seen.lost += 1
            seen.note(f"lost: {error!r}")
        else:
            self._compare(seen, answer, body, began_at)

    def _compare(self, seen: Seen, answer: bytes, body: bytes, began_at: float) -> None:
        if answer != body:
            seen.wrong += 1
            seen.note(f"wrong: {answer[:40]!r} for {body!r}")
            return
        seen.right(began_at, asyncio.get_running_loop().time())
        if not self._answered.is_set() and all(one.ok for one in self.seen.values()):
            self._answered.set()


async def main() -> None:
    """Load until told to end, then the account."""
    options = _options()
    _allow_all_descriptors()
    loop = asyncio.get_running_loop()
    host, _, port = options.http.rpartition(":")
    tcp = HttpClient(options.model, lambda make: loop.create_connection(make, host, int(port)))
    unix = HttpClient(options.model, lambda make: loop.create_unix_connection(make, options.unix))
    clients: dict[str, Ask] = {"http": tcp.ask, "unix": unix.ask}
    if options.grpc != "none":
        clients["grpc"] = GrpcClient(options.model, options.grpc).ask
    load, is_over = Load(options.rate, clients), asyncio.Event()
    loop.add_reader(sys.stdin.fileno(), is_over.set)
    loop.add_signal_handler(signal.SIGTERM, is_over.set)
    begun = asyncio.create_task(load.every_protocol_answered())
    begun.add_done_callback(lambda _: print("begun", flush=True))
    await load.run(is_over)
    idle_closes = tcp.idle_closes + unix.idle_closes
    print(json.dumps(load.account() | {"idle_closes": idle_closes}), flush=True)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rate", type=float, default=500)
    parser.add_argument("--model", default="load")
    parser.add_argument("--http", default="127.0.0.1:8080")
    parser.add_argument("--grpc", default="127.0.0.1:7070", help="`none` for no gRPC")
    parser.add_argument("--unix", required=True)
    return parser.parse_args()


def _allow_all_descriptors() -> None:
    """A request that waits holds a connection."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


if __name__ == "__main__":
    uvloop.run(main())
