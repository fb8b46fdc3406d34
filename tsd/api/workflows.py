"""Workflows, as TorchServe answers when it has none: it removed them, and tsd never had any.

Clients that look for one are told that it is not there; who tries to register one is told why in
the log, and on the control socket in the answer."""

from __future__ import annotations

from tsd.api import answers
from tsd.api.routes import UNKNOWN, Call, CallHandler
from tsd.errors import BadRequest, UnknownRoute, WorkflowNotFound
from tsd.http.message import Request, Response
from tsd.log import get_logger

WHY = "workflows are not supported: TorchServe itself removed them"
FIX = "let the client call the models one after the other, or call them from one handler"

log = get_logger()


def predict(_request: Request, segments: list[str]) -> None:
    """`/wfpredict/{workflow}[/…]`, with any method."""
    if len(segments) < 2:
        raise UnknownRoute(UNKNOWN)
    raise _unknown(f"Workflow not found: {segments[1]}")


async def list_all(_call: Call) -> Response:
    """There are none."""
    return answers.json_answer({"workflows": []})


async def register(call: Call) -> Response:
    """Refused, with TorchServe's words for an archive that is not there."""
    url = call.query.get("url")
    if url is None:
        raise BadRequest("Parameter url is required.")
    log.warning("%s", WHY, fix=FIX, code="workflow_refused")
    where = "in workflow store" if url else "at"
    raise _unknown(f"Workflow not found {where}: {url}")


async def find(call: Call) -> Response:
    """Describe or remove one: there are none."""
    raise _unknown(f"Workflow not found: {call.parts['workflow']}")


ROUTES: dict[tuple[str, str], CallHandler] = {
    ("GET", "/workflows"): list_all,
    ("POST", "/workflows"): register,
    ("GET", "/workflows/{workflow}"): find,
    ("DELETE", "/workflows/{workflow}"): find,
}


def _unknown(text: str) -> WorkflowNotFound:
    return WorkflowNotFound(text, why=WHY, fix=FIX)
