"""The doors: which sockets there are, inherited or bound here. What may be asked: api/table.py.

A socket that the service manager holds is taken as it is, in place of the configured address.
Doors with the same address are one, named after the first."""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from tsd.addresses import Address, parse_address
from tsd.api import answers
from tsd.api.access import CONTROL
from tsd.api.openapi import SECTIONS
from tsd.api.table import LOCAL, sections_of_doors
from tsd.http.answers import OnAnswer
from tsd.http.connection import Handler
from tsd.http.listener import Listener, bind_tcp, bind_unix
from tsd.settings import Config, TlsSettings
from tsd.tls import TlsDoor, read_identity

# The sockets that are always there.
FILE_NAMES = {CONTROL: "control.sock", LOCAL: "http.sock"}
# Who may open a socket's file: the operators' group, or every service of this machine.
FOR_GROUP, FOR_ALL = 0o660, 0o666
UNIX_MODES = {CONTROL: FOR_GROUP, LOCAL: FOR_ALL}


@dataclass(frozen=True, slots=True)
class OpenDoor:
    """One listening socket; `path`: the file to remove at the end, where it was made here."""

    name: str
    listener: Listener
    address: str
    path: Path | None = None


class Doors:
    """Opened in order, closed together."""

    def __init__(
        self,
        config: Config,
        inherited: Mapping[str, list[socket.socket]],
        handler: Handler,
        on_answer: OnAnswer | None = None,
    ) -> None:
        self._config = config
        self._inherited = {name: list(sockets) for name, sockets in inherited.items()}
        self._handler = handler
        # Told of the answers at doors that other machines might reach.
        self._on_answer = on_answer
        self._tls: TlsDoor | None = None
        self.open: list[OpenDoor] = []

    async def open_control(self) -> None:
        """The operators' door, first: start-up can be watched through it."""
        await self._open_inherited(CONTROL)
        if not self.has(CONTROL):
            await self._open_unix(CONTROL)

    async def open_others(self) -> None:
        """All other doors that are configured or inherited."""
        joined = sections_of_doors(self._config.doors)
        for name in SECTIONS:
            await self._open_inherited(name)
            if name in joined and not self.has(name):
                await self._open_configured(name)
        if not any(door.name == "http" and door.address.startswith("/") for door in self.open):
            await self._open_unix(LOCAL)

    def renew_certificate(self, settings: TlsSettings) -> None:
        """Read it again, for the clients that come from now on; ConfigError: the old one stays."""
        if self._tls is not None and (settings.certificate or settings.keystore):
            self._tls.renew(read_identity(settings))

    def has(self, name: str) -> bool:
        """Whether a door of that name is open."""
        return any(door.name == name for door in self.open)

    @property
    def connections(self) -> int:
        """Open client connections at all doors."""
        return sum(len(door.listener.connections) for door in self.open)

    @property
    def answered(self) -> Counter[int]:
        """Answers at the TCP doors, by the first digit of the status."""
        total: Counter[int] = Counter()
        for door in self.open:
            if not door.address.startswith("/"):
                total.update(door.listener.answered)
                for status, count in door.listener.refusals.items():
                    total[status // 100] += count
        return total

    def addresses(self) -> list[dict[str, str]]:
        """Name and address of each, for people."""
        return [{"name": door.name, "address": door.address} for door in self.open]

    async def _open_inherited(self, name: str) -> None:
        for inherited in self._inherited.pop(name, []):
            is_local = name == "http" and inherited.family == socket.AF_UNIX
            await self._start(LOCAL if is_local else name, inherited)

    async def _open_configured(self, name: str) -> None:
        address, backlog = self._address(name), self._config.http.backlog
        if isinstance(address, Path):
            # Predictions at the same address do not open it to everybody.
            is_management = "management" in sections_of_doors(self._config.doors)[name]
            mode = FOR_GROUP if is_management else FOR_ALL
            await self._start(name, bind_unix(address, mode, backlog), address)
        elif address is not None:
            await self._start(name, bind_tcp(address.host, address.port, backlog))

    async def _open_unix(self, name: str) -> None:
        path = self._config.runtime_dir / FILE_NAMES[name]
        bound = bind_unix(path, UNIX_MODES[name], self._config.http.backlog)
        await self._start(name, bound, path)

    async def _start(self, name: str, bound: socket.socket, path: Path | None = None) -> None:
        on_answer = None if bound.family == socket.AF_UNIX else self._on_answer
        listener = Listener(
            name,
            self._config.http,
            self._handler,
            on_answer=on_answer,
            refusal_head=answers.refusal_head,
        )
        tls = await self._tls_context(name, bound)
        await listener.start(bound, tls)
        address = f"https://{_address_text(bound)}" if tls else _address_text(bound)
        self.open.append(OpenDoor("http" if name == LOCAL else name, listener, address, path))

    async def _tls_context(self, name: str, bound: socket.socket) -> ssl.SSLContext | None:
        address = self._address(name)
        is_tls = isinstance(address, Address) and address.is_tls
        if not is_tls or bound.family == socket.AF_UNIX:
            return None
        if self._tls is None:
            self._tls = TlsDoor(await asyncio.to_thread(read_identity, self._config.tls))
        return self._tls.context

    def _address(self, name: str) -> Address | Path | None:
        return parse_address(getattr(self._config.doors, name, "none"))


def _address_text(bound: socket.socket) -> str:
    name = bound.getsockname()
    if bound.family == socket.AF_UNIX:
        return str(name)
    host, port = name[:2]
    return f"[{host}]:{port}" if bound.family == socket.AF_INET6 else f"{host}:{port}"
