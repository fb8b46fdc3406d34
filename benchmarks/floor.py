"""The floor: a bare uvloop and httptools server that answers a constant, whatever is asked.

No Python server that parses HTTP can do less for a request. Prints its port when it listens."""

from __future__ import annotations

import asyncio
from typing import cast

import httptools
import uvloop

ANSWER = (
    b'HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 11\r\n\r\n{"ok":true}'
)


class FloorConnection(asyncio.Protocol):
    """Takes what any server must take of a request, and writes the constant."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._parser = httptools.HttpRequestParser(self)
        self._headers: list[tuple[bytes, bytes]] = []
        self._target = b""
        self._body_bytes = 0
        self.is_complete = False

    def data_received(self, data: bytes) -> None:
        self._parser.feed_data(data)

    def on_url(self, target: bytes) -> None:
        self._target = target
        self._headers = []
        self._body_bytes = 0

    def on_header(self, name: bytes, value: bytes) -> None:
        self._headers.append((name, value))

    def on_headers_complete(self) -> None:
        self.is_complete = False

    def on_body(self, piece: bytes) -> None:
        self._body_bytes += len(piece)

    def on_message_complete(self) -> None:
        self.is_complete = True
        self._transport.write(ANSWER)


async def serve() -> None:
    loop = asyncio.get_running_loop()
    server = await loop.create_server(FloorConnection, "127.0.0.1", 0, backlog=1024)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


if __name__ == "__main__":
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(serve())
