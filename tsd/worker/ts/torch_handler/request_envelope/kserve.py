"""KServeEnvelope: KServe's first protocol; one request in a batch."""

from __future__ import annotations

from typing import Any

from ts.torch_handler.request_envelope.base import BaseEnvelope, body_of


class KServeEnvelope(BaseEnvelope):
    """The handler gets the `instances` of the first request."""

    def parse_input(self, data: Any) -> Any:
        """Its instances."""
        return body_of(data[0]).get("instances")

    def format_output(self, data: Any) -> list[dict[str, Any]]:
        """All results as the answer of that request."""
        return [{"explanations" if self._is_explain() else "predictions": data}]

    def _is_explain(self) -> bool:
        return bool(self.context and self.context.get_request_header(0, "explain") == "True")
