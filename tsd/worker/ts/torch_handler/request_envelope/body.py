"""BodyEnvelope: the handler gets each request's body itself."""

from __future__ import annotations

from typing import Any

from ts.torch_handler.request_envelope.base import BaseEnvelope


class BodyEnvelope(BaseEnvelope):
    """Takes what is under `data` or `body`; answers stay as they are."""

    def parse_input(self, data: Any) -> list[Any]:
        """The bodies."""
        return [row.get("data") or row.get("body") for row in data]

    def format_output(self, data: Any) -> Any:
        """The results as they are."""
        return data
