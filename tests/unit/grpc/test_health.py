"""grpc.health.v1, without a daemon."""

from __future__ import annotations

import asyncio
from typing import Any, cast

import pytest
from grpc_health.v1.health_pb2 import HealthCheckRequest, HealthCheckResponse

from tsd.errors import ModelNotFound
from tsd.grpc.calls import Call
from tsd.grpc.health import Health
from tsd.serving.model import ModelState
from tsd.serving.registry import Registry

SERVING, NOT_SERVING = HealthCheckResponse.SERVING, HealthCheckResponse.NOT_SERVING
UNKNOWN = HealthCheckResponse.SERVICE_UNKNOWN


class Models:
    """Names and states."""

    def __init__(self, **states: ModelState) -> None:
        self.states = states

    @property
    def names(self) -> list[str]:
        return list(self.states)

    def find(self, name: str) -> Any:
        return type("Model", (), {"state": self.states[name]})


class Told:
    """A call: what is written to it can be waited for."""

    def __init__(self) -> None:
        self.statuses: asyncio.Queue[int] = asyncio.Queue()

    async def write(self, answer: HealthCheckResponse) -> None:
        self.statuses.put_nowait(answer.status)


def health(models: Models, closing: asyncio.Event, *, is_ready: bool = True) -> Health:
    return Health(cast(Registry, models), lambda: is_ready, ["a.Service"], closing, 0.001)


def check(service: str, models: Models, *, is_ready: bool = True, is_closing: bool = False) -> int:
    async def ask() -> int:
        closing = asyncio.Event()
        if is_closing:
            closing.set()
        request = HealthCheckRequest(service=service)
        answer = await health(models, closing, is_ready=is_ready).check(request, cast(Call, Told()))
        return int(answer.status)

    return asyncio.run(ask())


def test_the_daemon_has_the_empty_name_and_each_services() -> None:
    for name in ("", "a.Service"):
        assert check(name, Models()) == SERVING
        assert check(name, Models(), is_ready=False) == NOT_SERVING
        assert check(name, Models(), is_closing=True) == NOT_SERVING


@pytest.mark.parametrize("state", list(ModelState))
def test_a_model_serves_when_it_is_ready(state: ModelState) -> None:
    expected = SERVING if state is ModelState.READY else NOT_SERVING
    assert check("m", Models(m=state)) == expected


def test_an_unknown_name_is_an_error() -> None:
    with pytest.raises(ModelNotFound):
        check("nobody", Models())


def test_a_watcher_is_told_each_change_and_the_end() -> None:
    async def watch() -> list[int]:
        models, closing, told = Models(), asyncio.Event(), Told()
        watching = asyncio.ensure_future(
            health(models, closing).watch(HealthCheckRequest(service="m"), cast(Call, told))
        )
        statuses = [await told.statuses.get()]
        models.states["m"] = ModelState.READY
        statuses.append(await told.statuses.get())
        closing.set()
        await watching
        return [*statuses, await told.statuses.get()]

    assert asyncio.run(watch()) == [UNKNOWN, SERVING, NOT_SERVING]
