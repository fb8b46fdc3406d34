"""TorchServe's own Open Inference routes, to the byte."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

from tests.unit.http.wire import Client
from tsd.api import open_inference
from tsd.api.routes import Router, Routes


async def ask(target: str) -> tuple[int, Any]:
    client = Client(Router({"http": [Routes({}, open_inference.ROUTES)]}).handle)
    client.send(f"POST {target} HTTP/1.1\r\nHost: h\r\n\r\n".encode())
    while not client.got:
        await asyncio.sleep(0)
        client.turn()
    head, _, body = client.got.partition(b"\r\n\r\n")
    return int(head.split(b" ")[1]), json.loads(body)


@pytest.mark.parametrize(
    ("target", "status", "expected"),
    [
        ("/v2/health/live", 200, {"live": True}),
        ("/v2/health/ready", 200, {"ready": True}),
        ("/v2/models/m/versions/1", 501, {"error": "Model versioning is not yet supported."}),
        ("/v2/models/m/versions/1/infer", 501, {"error": "Model versioning is not yet supported."}),
    ],
)
def test_answers_are_torchserves(target: str, status: int, expected: object) -> None:
    assert asyncio.run(ask(target)) == (status, expected)


def test_the_server_tells_its_name_and_version() -> None:
    status, told = asyncio.run(ask("/v2"))
    assert status == 200
    assert list(told) == ["name", "version", "extenstion"]
    assert (told["name"], told["extenstion"]) == ("Torchserve", ["kserve", "kubeflow"])
