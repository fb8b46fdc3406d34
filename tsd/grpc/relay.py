"""The listening socket of a gRPC door: the library's server cannot take over one that is inherited.

So clients are accepted here, and each is linked to a connection of its own to that server, which
listens on a private Unix socket. What a link does is in link.py."""

from __future__ import annotations

import asyncio
import errno
import socket
import ssl
from pathlib import Path

from tsd.grpc.link import Link
from tsd.log import get_logger

# For so long clients that were told to ask elsewhere may not have heard it yet.
LAST_CALLS_S = 0.3
TLS_HANDSHAKE_S = 10.0
NO_DESCRIPTORS_S = 0.5
TELL_AGAIN_S = 60.0
NO_DESCRIPTORS = (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM)

log = get_logger()


class Relay:
    """From `start` to the end of `drain`."""

    def __init__(
        self,
        listening: socket.socket,
        server: Path,
        max_links: int,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        # Calls that have begun since the start.
        self.calls = 0
        self._listening = listening
        self._server = server
        self._max_links = max_links
        self._tls = tls
        self._loop = asyncio.get_running_loop()
        self._links: dict[Link, asyncio.Task[None]] = {}
        self._changed = asyncio.Event()
        self._is_over = False
        self._tell_again_at = 0.0
        listening.settimeout(0)

    @property
    def open_calls(self) -> int:
        """Calls that have begun and not ended."""
        return sum(len(link.streams) for link in self._links)

    def start(self) -> None:
        """Accept clients while there is room for them; others wait in the kernel."""
        if not self._is_over and len(self._links) < self._max_links:
            self._loop.add_reader(self._listening, self._accept)

    def stop_accepting(self) -> None:
        """Take no new client: they wait for who listens next."""
        self._is_over = True
        self._loop.remove_reader(self._listening)

    async def drain(self, timeout_s: float) -> None:
        """Let the calls end that have begun; those that have not are for who listens next."""
        self.stop_accepting()
        for link in self._links:
            link.say_goaway()
        await self._wait_until_gone(min(LAST_CALLS_S, timeout_s))
        for link in tuple(self._links):
            link.refuse_new_calls()
        await self._wait_until_gone(timeout_s)
        for link, connecting in tuple(self._links.items()):
            connecting.cancel()
            link.abort()
        self._listening.close()

    async def _wait_until_gone(self, timeout_s: float) -> None:
        try:
            async with asyncio.timeout(timeout_s):
                while self._links:
                    self._changed.clear()
                    await self._changed.wait()
        except TimeoutError:
            return

    def _accept(self) -> None:
        try:
            client, onward = self._two_ends()
        except BlockingIOError:
            return
        except OSError as error:
            self._wait_for_descriptors(error)
            return
        client.settimeout(0)
        onward.settimeout(0)
        link = Link(self._count_call, self._forget)
        self._links[link] = self._loop.create_task(self._connect(link, client, onward))
        if len(self._links) >= self._max_links:
            self._loop.remove_reader(self._listening)

    def _two_ends(self) -> tuple[socket.socket, socket.socket]:
        """A client and what leads it on, or neither: it would have to be sent away."""
        onward = socket.socket(socket.AF_UNIX)
        try:
            client, _ = self._listening.accept()
        except OSError:
            onward.close()
            raise
        return client, onward

    def _wait_for_descriptors(self, error: OSError) -> None:
        """Else the socket would be ready, and the accept fail, again and again."""
        if error.errno in NO_DESCRIPTORS:
            self._tell(error)
            self._loop.remove_reader(self._listening)
            self._loop.call_later(NO_DESCRIPTORS_S, self.start)

    def _tell(self, error: OSError) -> None:
        if self._loop.time() >= self._tell_again_at:
            self._tell_again_at = self._loop.time() + TELL_AGAIN_S
            log.error("no gRPC client can be accepted: %s", error.strerror, code="fd_exhausted")

    async def _connect(self, link: Link, client: socket.socket, onward: socket.socket) -> None:
        handshake_s = TLS_HANDSHAKE_S if self._tls else None
        try:
            await self._loop.sock_connect(onward, str(self._server))
            await self._loop.create_unix_connection(lambda: link.server, sock=onward)
            await self._loop.connect_accepted_socket(
                lambda: link.client, client, ssl=self._tls, ssl_handshake_timeout=handshake_s
            )
        except OSError as error:
            log.debug("a gRPC client was not connected: %s", error)
            client.close()
            onward.close()
            link.abort()
            self._forget(link)

    def _forget(self, link: Link) -> None:
        self._links.pop(link, None)
        self._changed.set()
        self.start()

    def _count_call(self) -> None:
        self.calls += 1
