"""The doors: which sockets there are, inherited or bound here. What may be asked: api/table.py.

A socket that the service manager holds is taken as it is, in place of the configured address.
Doors with the same address are one, named after the first."""

from __future__ import annotations

import asyncio
import ipaddress
import socket
import ssl
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from tsd.addresses import GRPC_DOORS, Address, parse_address
from tsd.api import answers
from tsd.api.access import CONTROL
from tsd.api.openapi import SECTIONS
from tsd.api.table import LOCAL, sections_of_doors
from tsd.config import LOCAL_ONLY, admits_others
from tsd.errors import ConfigError, StartupError
from tsd.http.answers import OnAnswer
from tsd.http.connection import Handler
from tsd.http.listener import Listener, address_text, bind_tcp, bind_unix
from tsd.settings import Config, TlsSettings
from tsd.tls import TlsDoor, read_identity

if TYPE_CHECKING:
    from tsd.grpc.server import GrpcDoors

GRPC_NAMES = [name.removeprefix("doors.") for name in GRPC_DOORS]
NAMES = (CONTROL, *SECTIONS, *GRPC_NAMES)
"""All doors, as socket units name them."""
# The sockets that are always there.
FILE_NAMES = {CONTROL: "control.sock", LOCAL: "http.sock"}
# Who may open a socket's file: the operators' group, or every service of this machine.
FOR_GROUP, FOR_ALL = 0o660, 0o666
UNIX_MODES = {CONTROL: FOR_GROUP, LOCAL: FOR_ALL}


Inherited = Mapping[str, list[socket.socket]]
"""The listening sockets that the service manager holds, by the name of their door."""


@dataclass(frozen=True, slots=True)
class Drained:
    """How many requests were answered while draining, and how many clients had to be cut."""

    answered: int
    cut: int


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
        inherited: Inherited,
        handler: Handler,
        on_answer: OnAnswer | None = None,
    ) -> None:
        self._config = config
        self._inherited = {name: list(sockets) for name, sockets in inherited.items()}
        self._handler = handler
        # Told of the answers at doors that other machines might reach.
        self._on_answer = on_answer
        self._tls: TlsDoor | None = None
        self._grpc: GrpcDoors | None = None
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

    @property
    def has_grpc(self) -> bool:
        """Whether a gRPC door is configured or inherited."""
        configured = any(getattr(self._config.doors, name) != "none" for name in GRPC_NAMES)
        return configured or any(name in self._inherited for name in GRPC_NAMES)

    async def open_grpc(self, make: Callable[[Inherited], GrpcDoors]) -> None:
        """The doors that the library serves, with the sockets that are inherited for them."""
        self._grpc = make({name: self._inherited.pop(name, []) for name in GRPC_NAMES})
        await self._grpc.open()

    def configure(self, config: Config) -> None:
        """These limits bind clients that come from now on, also at doors that open later."""
        self._config = config
        for door in self.open:
            door.listener.limits = config.http

    def renew_certificate(self, settings: TlsSettings) -> None:
        """Read it again, for the clients that come from now on; ConfigError: the old one stays.

        One that was made here is not made anew."""
        speak = [one for one in (self._tls, self._grpc and self._grpc.certificate) if one]
        if speak and (settings.certificate or settings.keystore):
            identity = read_identity(settings)
            for one in speak:
                one.renew(identity)

    async def drain(self, timeout_s: float) -> Drained:
        """Answer what has been asked at all doors but the operators'; take nothing new."""
        asked_before = self.asked - self._open_calls
        doors = [door for door in self.open if door.name != CONTROL]
        for door in doors:
            door.listener.stop_accepting()
        calls = asyncio.ensure_future(self._drain_grpc(timeout_s))
        cut = sum(await asyncio.gather(*[door.listener.drain(timeout_s) for door in doors]))
        await calls
        return Drained(self.asked - asked_before, cut)

    async def _drain_grpc(self, timeout_s: float) -> None:
        if self._grpc is not None:
            await self._grpc.drain(timeout_s)

    async def close(self, timeout_s: float) -> None:
        """The operators' door, too, and the files that were made here."""
        for door in self.open:
            await door.listener.drain(timeout_s)
            if door.path is not None:
                door.path.unlink(missing_ok=True)

    def has(self, name: str) -> bool:
        """Whether a door of that name is open."""
        return any(door.name == name for door in self.open)

    @property
    def connections(self) -> int:
        """Open client connections at all doors."""
        return sum(len(door.listener.connections) for door in self.open)

    @property
    def asked(self) -> int:
        """Requests that have been answered, and calls that have begun, at all doors."""
        listeners = [door.listener for door in self.open]
        answered = sum(one.answered.total() + one.refusals.total() for one in listeners)
        return answered + (self._grpc.calls if self._grpc else 0)

    @property
    def is_busy(self) -> bool:
        """Whether something is being asked or answered."""
        return self._open_calls > 0 or any(door.listener.is_busy for door in self.open)

    @property
    def _open_calls(self) -> int:
        return self._grpc.open_calls if self._grpc else 0

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
        own = [{"name": door.name, "address": door.address} for door in self.open]
        return own + (self._grpc.addresses() if self._grpc else [])

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
        address = f"https://{address_text(bound)}" if tls else address_text(bound)
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


def check_inherited(inherited: Inherited, config: Config) -> None:
    """Raise where a socket is for no door, or open to others though the settings keep them out;
    and where the daemon is to leave when idle, and nobody would hold all of its sockets."""
    for name, sockets in inherited.items():
        if name not in NAMES:
            raise StartupError(
                f"a socket was passed as {name!r}, and there is no such door",
                why="who connects there would wait for ever",
                fix=f"FileDescriptorName= of the socket unit is one of {', '.join(NAMES)}",
            )
        for one in sockets:
            _check_reach(name, one, config)
    alone = _bound_here(inherited, config)
    if config.exit_on_idle_s and alone:
        raise StartupError(
            "the daemon cannot leave when it is idle",
            why=f"nobody would hold these doors meanwhile, and start it again: {', '.join(alone)}",
            fix="enable their socket units, or set those doors to none",
        )


def _bound_here(inherited: Inherited, config: Config) -> list[str]:
    """The doors that no socket is inherited for."""
    held = set(inherited)
    if any(one.family == socket.AF_UNIX for one in inherited.get("http", [])):
        held.add(LOCAL)
    grpc = [name for name in GRPC_NAMES if getattr(config.doors, name) != "none"]
    wanted = (CONTROL, LOCAL, *sections_of_doors(config.doors), *grpc)
    return [FILE_NAMES.get(name, name) for name in wanted if name not in held]


def _check_reach(name: str, inherited: socket.socket, config: Config) -> None:
    """What holds for an address in the settings holds for one in a socket unit."""
    if inherited.family == socket.AF_UNIX or admits_others(config):
        return
    host = str(inherited.getsockname()[0]).partition("%")[0]
    if not ipaddress.ip_address(host).is_loopback:
        raise ConfigError(
            f"the socket that was passed as {name!r} cannot listen on {address_text(inherited)}",
            why="other machines can reach it, and doors.remote does not let them in",
            fix=LOCAL_ONLY,
        )
