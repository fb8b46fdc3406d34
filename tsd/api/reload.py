"""Reading the configuration again, for operators: what has changed, or why nothing has."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass

from tsd.api import answers
from tsd.api.access import audit, caller_of
from tsd.api.routes import Call, CallHandler
from tsd.http.message import Response


@dataclass(frozen=True, slots=True)
class Reloaded:
    """The settings that have other values now, and those that will after a restart."""

    changed: list[str]
    needs_restart: list[str]


def routes(reload: Callable[[], Reloaded]) -> Mapping[tuple[str, str], CallHandler]:
    """Method and path -> handler; `reload` raises ConfigError, and then nothing has changed."""

    async def answer(call: Call) -> Response:
        audit(caller_of(call.request), call.request)
        return answers.json_answer(asdict(reload()))

    return {("POST", "/tsd/reload"): answer}
