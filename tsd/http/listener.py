"""One listening socket and the connections it has accepted.

The listener owns the connections: it admits them, looks after their time, and drains them."""

from __future__ import annotations

import asyncio
import errno
import socket
import ssl
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from tsd.errors import StartupError
from tsd.http.answers import OnAnswer
from tsd.http.body import Heap
from tsd.http.connection import Connection, Handler, Terms
from tsd.http.head import KnownHeads
from tsd.http.pace import LAST_WORD_S, LINGER_S
from tsd.settings import HttpSettings

SWEEP_S = 1.0
# So many connections look at the time in one turn of the loop: all of them would hold it too long.
SWEPT_AT_ONCE = 500


class Listener:
    """A door: what comes in by this socket goes to `handler`."""

    def __init__(
        self,
        door: str,
        limits: HttpSettings,
        handler: Handler,
        clock: Callable[[], float] = time.monotonic,
        on_answer: OnAnswer | None = None,
        refusal_head: Callable[[], bytes] = bytes,
    ) -> None:
        self.connections: set[Connection] = set()
        # How often http/ has answered by itself, by status.
        self.refusals: Counter[int] = Counter()
        # Its other answers, by the first digit of the status.
        self.answered: Counter[int] = Counter()
        self._terms = Terms(
            door=door,
            limits=limits,
            known_heads=KnownHeads(),
            heap=Heap(),
            handler=handler,
            clock=clock,
            call_soon=_call_soon,
            admit=self._admit,
            forget=self._forget,
            count_refusal=self._count_refusal,
            answered=self.answered,
            on_answer=on_answer,
            refusal_head=refusal_head,
        )
        self._server: asyncio.Server | None = None
        # The next sweep, or the next part of one that has begun.
        self._timer: asyncio.Handle | None = None
        self._all_gone: asyncio.Future[None] | None = None
        self._is_draining = False
        # Clients in their TLS handshake: accepted, and not known yet.
        self._may_have_more = False

    @property
    def limits(self) -> HttpSettings:
        """What new connections are bound by; the others keep what they were accepted under."""
        return self._terms.limits

    @limits.setter
    def limits(self, limits: HttpSettings) -> None:
        self._terms = replace(self._terms, limits=limits, known_heads=KnownHeads())

    @property
    def is_busy(self) -> bool:
        """Whether a request is coming in, or waits for its answer."""
        return any(connection.is_busy for connection in self.connections)

    async def start(self, sock: socket.socket, tls: ssl.SSLContext | None = None) -> None:
        """Accept clients from a bound socket, which is the listener's from now on."""
        self._may_have_more = tls is not None
        # Unix sockets, too: create_unix_server, from Python 3.13 on, removes the file at the end;
        # but the service manager's is the next daemon's, too.
        self._server = await asyncio.get_running_loop().create_server(
            self.connect,
            sock=sock,
            backlog=self.limits.backlog,
            ssl=tls,
            # Until its handshake is done a client has no connection, and so none to be swept.
            ssl_handshake_timeout=self.limits.header_timeout_s if tls else None,
            ssl_shutdown_timeout=LINGER_S if tls else None,
        )

    def connect(self) -> Connection:
        """A connection for the next client."""
        return Connection(self._terms)

    def stop_accepting(self) -> None:
        """Take no new client; those that are there stay."""
        if self._server is not None:
            self._server.close()
            self._server = None

    async def drain(self, grace_s: float) -> int:
        """Answer what has begun, close what is idle; returns how many had to be cut."""
        self.stop_accepting()
        end_at = self._terms.clock() + grace_s
        self._is_draining = True
        for connection in self.connections:
            connection.drain()
        if self._may_have_more:
            self._may_have_more = False
            await asyncio.sleep(min(LAST_WORD_S, grace_s))
        while self.connections and (left_s := end_at - self._terms.clock()) > 0:
            await self._wait_until_gone(min(LAST_WORD_S, left_s))
            self.end_idle()
        cut = len(self.connections)
        self.close()
        return cut

    def end_idle(self) -> None:
        """Close every connection on which nothing has begun."""
        now = self._terms.clock()
        for connection in tuple(self.connections):
            connection.end_if_idle()
            connection.sweep(now)

    async def _wait_until_gone(self, timeout_s: float) -> None:
        self._all_gone = asyncio.get_running_loop().create_future()
        await asyncio.wait([self._all_gone], timeout=timeout_s)

    def close(self) -> None:
        """Cut everything."""
        self.stop_accepting()
        for connection in tuple(self.connections):
            connection.abort()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def sweep(self) -> None:
        """Let every connection look at the time."""
        self._sweep_some(list(self.connections))

    def _sweep_some(self, left: list[Connection]) -> None:
        now = self._terms.clock()
        for connection in left[-SWEPT_AT_ONCE:]:
            if connection in self.connections:
                connection.sweep(now)
        del left[-SWEPT_AT_ONCE:]
        self._timer = None
        if left:
            self._timer = asyncio.get_running_loop().call_soon(self._sweep_some, left)
        self._arm()

    def _admit(self, connection: Connection) -> bool:
        self.connections.add(connection)
        self._arm()
        if self._is_draining:
            # Accepted before, over TLS: its handshake has taken until now.
            connection.drain()
        if len(self.connections) > 2 * self.limits.max_connections:
            # So many are being refused at once that not even that can be told to all.
            connection.abort()
        return len(self.connections) <= self.limits.max_connections

    def _forget(self, connection: Connection) -> None:
        self.connections.discard(connection)
        if not self.connections and self._all_gone is not None and not self._all_gone.done():
            self._all_gone.set_result(None)

    def _count_refusal(self, status: int) -> None:
        self.refusals[status] += 1

    def _arm(self) -> None:
        if self._timer is None and self.connections:
            self._timer = asyncio.get_running_loop().call_later(SWEEP_S, self.sweep)


def _call_soon(callback: Callable[[], None]) -> None:
    asyncio.get_running_loop().call_soon(callback)


def bind_tcp(address: str, port: int, backlog: int) -> socket.socket:
    """A listening TCP socket; port 0 takes any free one."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    sock = socket.socket(family, socket.SOCK_STREAM)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind((address, port))
        sock.listen(backlog)
    except OSError as error:
        sock.close()
        raise _cannot_listen(f"{address}:{port}", error) from error
    sock.settimeout(0)
    return sock


def bind_unix(path: Path, mode: int, backlog: int) -> socket.socket:
    """A listening Unix socket; the file that a dead server left behind is replaced."""
    _remove_stale(path)
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        sock.bind(str(path))
        # Before it listens nobody can connect: no client gets in under a wider mode.
        path.chmod(mode)
        sock.listen(backlog)
    except OSError as error:
        sock.close()
        raise _cannot_listen(str(path), error) from error
    sock.settimeout(0)
    return sock


def address_text(bound: socket.socket) -> str:
    """Where a socket listens, for people."""
    name = bound.getsockname()
    if bound.family == socket.AF_UNIX:
        return str(name)
    host, port = name[:2]
    return f"[{host}]:{port}" if bound.family == socket.AF_INET6 else f"{host}:{port}"


def _remove_stale(path: Path) -> None:
    if not path.is_socket():
        return
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        try:
            probe.connect(str(path))
        except ConnectionRefusedError:
            path.unlink()
            return
        except OSError as error:
            raise _cannot_listen(str(path), error) from error
    raise StartupError(
        f"cannot listen on {path}",
        why="another server answers on this socket",
        fix="stop it, or choose another runtime directory",
    )


def _cannot_listen(place: str, error: OSError) -> StartupError:
    fixes = {
        errno.EADDRINUSE: "stop the program that listens there, or choose another place",
        errno.EACCES: "choose a port above 1023, or a folder that this user may write to",
        errno.EADDRNOTAVAIL: "choose an address of this machine",
        errno.ENOENT: "make the folder first",
    }
    fix = fixes.get(error.errno or 0, "check the address in the configuration")
    return StartupError(f"cannot listen on {place}", why=error.strerror or str(error), fix=fix)
