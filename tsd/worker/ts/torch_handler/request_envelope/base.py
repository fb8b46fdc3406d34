"""BaseEnvelope: unwraps requests before a handler sees them, and wraps what it returns."""

from __future__ import annotations

import abc
import json
from collections.abc import Callable
from typing import Any


class BaseEnvelope(abc.ABC):
    """Derive from it in a module of its own beside this one, and define the two methods."""

    def __init__(self, handle_fn: Callable[[Any, Any], Any]) -> None:
        self._handle_fn = handle_fn
        self.context: Any = None

    def handle(self, data: Any, context: Any) -> Any:
        """One batch. Nothing is unwrapped when a handler is only initialized."""
        self.context = context
        results = self._handle_fn(self.parse_input(data) if data else data, context)
        return self.format_output(results) if results else results

    @abc.abstractmethod
    def parse_input(self, data: Any) -> Any:
        """Requests to what the handler takes."""

    @abc.abstractmethod
    def format_output(self, data: Any) -> Any:
        """What the handler returned, to answers."""


def body_of(row: Any) -> Any:
    """What a request holds, as JSON where it came as bytes."""
    body = row.get("data") or row.get("body") or row
    return json.loads(body) if isinstance(body, bytes | bytearray) else body
