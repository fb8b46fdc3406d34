"""The Open Inference routes as TorchServe has them: it says it is ready, whatever its models do.

tsd's own, which say how things are, stand in observe.py."""

from __future__ import annotations

from tsd.api import answers
from tsd.api.routes import Call, CallHandler
from tsd.http.message import Response
from tsd.version import own_version

NOT_IMPLEMENTED = 501


async def server(_call: Call) -> Response:
    """Who serves. The last name is misspelt as clients know it."""
    return answers.json_answer(
        {
            "name": "Torchserve",
            "version": own_version(),
            "extenstion": ["kserve", "kubeflow"],
        }
    )


async def live(_call: Call) -> Response:
    """The loop turns."""
    return answers.json_answer({"live": True})


async def ready(_call: Call) -> Response:
    """The server takes requests."""
    return answers.json_answer({"ready": True})


async def version(_call: Call) -> Response:
    """Paths that name a version."""
    text = "Model versioning is not yet supported."
    return answers.json_answer({"error": text}, NOT_IMPLEMENTED)


ROUTES: dict[tuple[str, str], CallHandler] = {
    ("*", "/v2"): server,
    ("*", "/v2/health/live"): live,
    ("*", "/v2/health/ready"): ready,
    ("*", "/v2/models/{model}/versions/{version}"): version,
    ("*", "/v2/models/{model}/versions/{version}/{verb}"): version,
}
