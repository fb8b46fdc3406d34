"""grpc.health.v1: the daemon under the empty name and each service's, and every model."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection

from grpc_health.v1.health_pb2 import HealthCheckRequest, HealthCheckResponse

from tsd.errors import ModelNotFound
from tsd.grpc.calls import Call, Rpc
from tsd.grpc.statuses import of_change
from tsd.serving.model import ModelState
from tsd.serving.registry import Registry

NAME = "grpc.health.v1.Health"
LOOK_AGAIN_S = 1.0


class Health:
    """The methods; `rpcs` is their table. `closing` is set when the daemon stops."""

    def __init__(
        self,
        registry: Registry,
        is_ready: Callable[[], bool],
        services: Collection[str],
        closing: asyncio.Event,
        look_again_s: float = LOOK_AGAIN_S,
    ) -> None:
        self._registry = registry
        self._is_ready = is_ready
        self._services = {"", *services}
        self._closing = closing
        self._look_again_s = look_again_s

    @property
    def rpcs(self) -> dict[str, Rpc]:
        """Method -> what it reads, and who answers."""
        return {
            "Check": Rpc(HealthCheckRequest, self.check, of_change),
            "Watch": Rpc(HealthCheckRequest, self.watch, of_change, writes_stream=True),
        }

    async def check(self, request: HealthCheckRequest, _call: Call) -> HealthCheckResponse:
        """The state now; NOT_FOUND for a name that means nothing here."""
        status = self._status(request.service)
        if status == HealthCheckResponse.SERVICE_UNKNOWN:
            raise ModelNotFound(f"Model not found: {request.service}")
        return HealthCheckResponse(status=status)

    async def watch(self, request: HealthCheckRequest, call: Call) -> None:
        """The state now, and each that follows, until the daemon stops."""
        told = None
        while True:
            status = self._status(request.service)
            if status != told:
                await call.write(HealthCheckResponse(status=status))
                told = status
            if self._closing.is_set():
                return
            try:
                async with asyncio.timeout(self._look_again_s):
                    await self._closing.wait()
            except TimeoutError:
                continue

    def _status(self, name: str) -> HealthCheckResponse.ServingStatus:
        if name in self._services:
            is_serving = self._is_ready()
        elif name in self._registry.names:
            is_serving = self._registry.find(name).state is ModelState.READY
        else:
            return HealthCheckResponse.SERVICE_UNKNOWN
        if is_serving and not self._closing.is_set():
            return HealthCheckResponse.SERVING
        return HealthCheckResponse.NOT_SERVING
