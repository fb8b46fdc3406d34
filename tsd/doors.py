"""The doors: which sockets there are, inherited or bound here, and what may be asked at each.

A socket that the service manager holds is taken as it is, in place of the configured address."""

from __future__ import annotations

import socket
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from tsd.api.access import CONTROL
from tsd.config import parse_address
from tsd.http.connection import Handler
from tsd.http.listener import Listener, bind_tcp, bind_unix
from tsd.settings import Config

TCP_DOORS = ("http", "management", "metrics")
# Who may open them: the operators' group, and every service of this machine.
UNIX_DOORS = {CONTROL: ("control.sock", 0o660), "http": ("http.sock", 0o666)}


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
        self, config: Config, inherited: Mapping[str, list[socket.socket]], handler: Handler
    ) -> None:
        self._config = config
        self._inherited = {name: list(sockets) for name, sockets in inherited.items()}
        self._handler = handler
        self.open: list[OpenDoor] = []

    async def open_control(self) -> None:
        """The operators' door, first: start-up can be watched through it."""
        await self._open_inherited(CONTROL)
        if not self.has(CONTROL):
            await self._open_unix(CONTROL)

    async def open_others(self) -> None:
        """All other doors that are configured or inherited."""
        for name in TCP_DOORS:
            await self._open_inherited(name)
            address = parse_address(getattr(self._config.doors, name))
            if address is not None and not self.has(name):
                bound = bind_tcp(address.host, address.port, self._config.http.backlog)
                await self._start(name, bound)
        if not any(door.name == "http" and door.address.startswith("/") for door in self.open):
            await self._open_unix("http")

    def has(self, name: str) -> bool:
        """Whether a door of that name is open."""
        return any(door.name == name for door in self.open)

    @property
    def connections(self) -> int:
        """Open client connections at all doors."""
        return sum(len(door.listener.connections) for door in self.open)

    def addresses(self) -> list[dict[str, str]]:
        """Name and address of each, for people."""
        return [{"name": door.name, "address": door.address} for door in self.open]

    async def _open_inherited(self, name: str) -> None:
        for inherited in self._inherited.pop(name, []):
            await self._start(name, inherited)

    async def _open_unix(self, name: str) -> None:
        file_name, mode = UNIX_DOORS[name]
        path = self._config.runtime_dir / file_name
        await self._start(name, bind_unix(path, mode, self._config.http.backlog), path)

    async def _start(self, name: str, bound: socket.socket, path: Path | None = None) -> None:
        address = _address_text(bound)
        listener = Listener(name, self._config.http, self._handler)
        await listener.start(bound)
        self.open.append(OpenDoor(name, listener, address, path))


def _address_text(bound: socket.socket) -> str:
    name = bound.getsockname()
    if bound.family == socket.AF_UNIX:
        return str(name)
    host, port = name[:2]
    return f"[{host}]:{port}" if bound.family == socket.AF_INET6 else f"{host}:{port}"
