"""What browsers are told about pages of other origins, where the configuration says something.

As in TorchServe the same in every answer, whoever asks; `OPTIONS` has no answer of its own."""

from __future__ import annotations

from tsd.api.access import CONTROL
from tsd.api.table import LOCAL
from tsd.http.connection import Handler
from tsd.http.message import Request, Response
from tsd.settings import CorsSettings


class Cors:
    """Stands before the handler of all doors."""

    def __init__(self, settings: CorsSettings, handler: Handler) -> None:
        named = {
            "access-control-allow-origin": settings.origin,
            "access-control-allow-methods": settings.methods,
            "access-control-allow-headers": settings.headers,
        }
        # What a line begins with that is already there, and the line.
        self._lines = [
            (f"\n{name}:".encode(), f"{name}: {value}\r\n".encode())
            for name, value in named.items()
            if value
        ]
        self._handler = handler

    def handle(self, request: Request) -> None:
        """Have the answer to a request finished, where it came over the network."""
        if request.door not in (CONTROL, LOCAL):
            request.finish = self._finish
        self._handler(request)

    def _finish(self, response: Response) -> None:
        """A header that the model's handler has set stays as it is."""
        present = b"\n" + response.head.lower()
        for begins, line in self._lines:
            if begins not in present:
                response.head += line


def with_cors(settings: CorsSettings, handler: Handler) -> Handler:
    """The handler itself where there is nothing to be told."""
    return handler if settings == CorsSettings() else Cors(settings, handler).handle
