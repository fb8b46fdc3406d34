"""The gRPC doors: which services stand at which, opened together and drained together.

The library binds the sockets itself, serves them from threads of its own, and hands every call
over to the loop. To a socket that is inherited it is linked by a relay."""

from __future__ import annotations

import asyncio
import shutil
import socket
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import grpc
import grpc.aio
from grpc_reflection.v1alpha import reflection

from tsd.addresses import Address, parse_address
from tsd.api.management import Management
from tsd.errors import StartupError
from tsd.grpc import health, inference, management, open_inference
from tsd.grpc.calls import Kind, Rpc, TokenCheck, TokenGate, UnknownMethods, service
from tsd.grpc.predictions import Predictions
from tsd.grpc.reflection import NAME as REFLECTION
from tsd.grpc.reflection import descriptions
from tsd.grpc.relay import Relay
from tsd.http.listener import address_text, bind_tcp
from tsd.serving.registry import Registry
from tsd.settings import Config
from tsd.tls import HTTP_2, Identity, TlsDoor

# More is no number to the library.
MAX_MESSAGE_BYTES = 2**31 - 1
# Where relays lead to, in a folder that no other user may enter.
PRIVATE_SOCKETS = {"grpc": "calls", "grpc_management": "admin"}

Services = Mapping[str, Mapping[str, Rpc]]


@dataclass(frozen=True, slots=True)
class Parts:
    """What the services ask; `tokens`: None where callers need none, `identity`: without TLS."""

    registry: Registry
    management: Management
    is_healthy: Callable[[], bool]
    is_ready: Callable[[], bool]
    tokens: TokenCheck | None = None
    identity: Identity | None = None


class GrpcDoors:
    """Those that are inherited, or that the configuration asks for."""

    def __init__(
        self, config: Config, parts: Parts, inherited: Mapping[str, list[socket.socket]]
    ) -> None:
        self._config = config
        self._parts = parts
        self._inherited = inherited
        self._private_folder = config.runtime_dir / "grpc"
        self._closing = asyncio.Event()
        self._servers: list[grpc.aio.Server] = []
        self._relays: list[Relay] = []
        self._addresses: list[dict[str, str]] = []
        # None without TLS.
        self.certificate = Certificate(parts.identity) if parts.identity else None

    @property
    def calls(self) -> int:
        """Calls that have begun at inherited sockets."""
        return sum(relay.calls for relay in self._relays)

    @property
    def open_calls(self) -> int:
        """Those of them that have not ended."""
        return sum(relay.open_calls for relay in self._relays)

    async def open(self) -> None:
        """Listen; StartupError where that cannot be."""
        doors = self._config.doors
        await self._open("grpc", doors.grpc, "inference", self._for_inference())
        await self._open(
            "grpc_management", doors.grpc_management, "management", self._for_management()
        )

    async def drain(self, timeout_s: float) -> None:
        """Take no new calls; those that have begun may end, until they are cut."""
        self._closing.set()
        await asyncio.gather(*[relay.drain(timeout_s) for relay in self._relays])
        await asyncio.gather(*[server.stop(timeout_s) for server in self._servers])
        if self._relays:
            shutil.rmtree(self._private_folder, ignore_errors=True)

    def addresses(self) -> list[dict[str, str]]:
        """Name and address of each, for people."""
        return list(self._addresses)

    def _for_inference(self) -> Services:
        config, parts = self._config, self._parts
        predictions = Predictions(parts.registry, config.serving.max_answer_bytes)
        torchserves = inference.Inference(
            predictions, config.serving, parts.is_healthy, self._closing
        )
        services: dict[str, Mapping[str, Rpc]] = {inference.NAME: torchserves.rpcs}
        if config.torchserve.open_inference or not config.torchserve.is_strict:
            v2 = open_inference.OpenInference(parts.registry, predictions)
            services[open_inference.NAME] = services[open_inference.STANDARD_NAME] = v2.rpcs
        return services

    def _for_management(self) -> Services:
        has_model_api = self._config.access.model_api
        verbs = management.ManagementService(self._parts.management, has_model_api=has_model_api)
        return {management.NAME: verbs.rpcs}

    async def _open(self, door: str, text: str, kind: Kind, services: Services) -> None:
        inherited, address = self._inherited.get(door, []), parse_address(text)
        if not inherited and not isinstance(address, Address):
            return
        server = self._server(kind)
        parts = self._parts
        probes = health.Health(parts.registry, parts.is_ready, services, self._closing)
        all_services = {**services, health.NAME: probes.rpcs}
        for name, rpcs in all_services.items():
            server.add_generic_rpc_handlers((service(name, rpcs),))
        reflection.enable_server_reflection((*all_services, REFLECTION), server, descriptions())
        server.add_generic_rpc_handlers((UnknownMethods(),))
        self._servers.append(server)
        if inherited:
            await self._serve_inherited(door, server, inherited)
        elif isinstance(address, Address):
            port = self._bind(server, address)
            await server.start()
            self._addresses.append({"name": door, "address": _text(address.host, port)})

    async def _serve_inherited(
        self, door: str, server: grpc.aio.Server, inherited: list[socket.socket]
    ) -> None:
        self._private_folder.mkdir(mode=0o700, exist_ok=True)
        private = self._private_folder / PRIVATE_SOCKETS[door]
        _listen(server.add_insecure_port, f"unix:{private}")
        await server.start()
        tls = self.certificate.door.context if self.certificate else None
        for listening in inherited:
            relay = Relay(listening, private, self._config.grpc.max_connections, tls)
            relay.start()
            self._relays.append(relay)
            self._addresses.append({"name": door, "address": address_text(listening)})

    def _server(self, kind: Kind) -> grpc.aio.Server:
        tokens, limits = self._parts.tokens, self._config.grpc
        options = {
            "grpc.max_receive_message_length": min(
                self._config.http.max_request_bytes, MAX_MESSAGE_BYTES
            ),
            # Two daemons at one port would share the clients between them.
            "grpc.so_reuseport": 0,
            # Else it ends calls by chance when many come at once, as after a start.
            "grpc.server.max_pending_requests": limits.max_streams,
            "grpc.server.max_pending_requests_hard_limit": limits.max_streams,
        }
        if limits.max_connection_age_s:
            options["grpc.max_connection_age_ms"] = round(1000 * limits.max_connection_age_s)
        if limits.max_connection_age_grace_s:
            grace_ms = round(1000 * limits.max_connection_age_grace_s)
            options["grpc.max_connection_age_grace_ms"] = grace_ms
        return grpc.aio.server(
            interceptors=[TokenGate(tokens, kind)] if tokens is not None else None,
            options=list(options.items()),
            maximum_concurrent_rpcs=limits.max_streams,
        )

    def _bind(self, server: grpc.aio.Server, address: Address) -> int:
        # The library does not say why it cannot listen; this does.
        bind_tcp(address.host, address.port, backlog=1).close()
        place = _text(address.host, address.port)
        if self.certificate is None:
            return _listen(server.add_insecure_port, place)
        credentials = self.certificate.credentials()
        return _listen(lambda place: server.add_secure_port(place, credentials), place)


class Certificate:
    """What TLS clients are shown, by the library and by relays; may be renewed."""

    def __init__(self, identity: Identity) -> None:
        self.door = TlsDoor(identity, HTTP_2)
        self._identity = identity

    def renew(self, identity: Identity) -> None:
        """Clients that come from now on see this; the others keep what they have."""
        self.door.renew(identity)
        self._identity = identity

    def credentials(self) -> grpc.ServerCredentials:
        """For the library, which asks again at each client."""
        return grpc.dynamic_ssl_server_credentials(self._configuration(), self._configuration)

    def _configuration(self) -> grpc.ServerCertificateConfiguration:
        pairs = [(self._identity.key, self._identity.certificate)]
        return grpc.ssl_server_certificate_configuration(pairs)


def _listen(add: Callable[[str], int], place: str) -> int:
    try:
        return add(place)
    except RuntimeError as error:
        raise StartupError(f"cannot listen on {place}", why=str(error)) from error


def _text(host: str, port: int) -> str:
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
