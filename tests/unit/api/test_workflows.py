"""Workflows are not there, in TorchServe's words."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

from tests.unit.http.wire import Client
from tsd.api import workflows
from tsd.api.access import CONTROL
from tsd.api.routes import Router, Routes


def asked(method: str, target: str, door: str = "http") -> tuple[int, Any]:
    return asyncio.run(_asked(method, target, door))


async def _asked(method: str, target: str, door: str) -> tuple[int, Any]:
    routes = [Routes({"wfpredict": workflows.predict}, workflows.ROUTES)]
    client = Client(Router({door: routes}).handle, door=door)
    client.send(f"{method} {target} HTTP/1.1\r\nHost: h\r\n\r\n".encode())
    while not client.got:
        await asyncio.sleep(0)
        client.turn()
    head, _, body = client.got.partition(b"\r\n\r\n")
    return int(head.split(b" ")[1]), json.loads(body)


def test_there_are_none() -> None:
    assert asked("GET", "/workflows") == (200, {"workflows": []})


@pytest.mark.parametrize(
    ("method", "target", "message"),
    [
        ("GET", "/workflows/x", "Workflow not found: x"),
        ("DELETE", "/workflows/x", "Workflow not found: x"),
        ("POST", "/workflows?url=x.war", "Workflow not found in workflow store: x.war"),
        ("POST", "/workflows?url=", "Workflow not found at: "),
        ("POST", "/wfpredict/x", "Workflow not found: x"),
        ("GET", "/wfpredict/x/y", "Workflow not found: x"),
    ],
)
def test_none_is_found(method: str, target: str, message: str) -> None:
    error = {"code": 404, "type": "WorkflowNotFoundException", "message": message}
    assert asked(method, target) == (404, error)


def test_an_operator_is_told_why() -> None:
    _, error = asked("POST", "/workflows?url=x.war", CONTROL)
    assert "not supported" in error["why"]
    assert error["fix"]


def test_what_is_no_request_for_one_is_refused() -> None:
    assert asked("POST", "/workflows")[1]["message"] == "Parameter url is required."
    assert asked("POST", "/wfpredict")[1]["type"] == "ResourceNotFoundException"
    assert asked("PUT", "/workflows")[0] == 405
