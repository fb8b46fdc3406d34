"""JSONEnvelope: TensorFlow Serving's shape, `{"instances": […]}` and `{"predictions": […]}`."""

from __future__ import annotations

import base64
import json
from typing import Any

from ts.torch_handler.request_envelope.base import BaseEnvelope, body_of


class JSONEnvelope(BaseEnvelope):
    """The handler gets the instances of all requests as one batch."""

    _lengths: tuple[int, ...] = ()

    def parse_input(self, data: Any) -> list[Any]:
        """All instances, in order; `{"b64": …}` in them is decoded."""
        requests = [[_decoded(each) for each in body_of(row)["instances"]] for row in data]
        self._lengths = tuple(len(instances) for instances in requests)
        return [instance for instances in requests for instance in instances]

    def format_output(self, data: Any) -> list[str]:
        """For each request, the predictions of its own instances."""
        answers, begin = [], 0
        for length in self._lengths:
            answers.append(json.dumps({"predictions": data[begin : begin + length]}))
            begin += length
        return answers


def _decoded(instance: Any) -> Any:
    if not isinstance(instance, dict):
        return instance
    if list(instance) == ["b64"]:
        return base64.b64decode(instance["b64"])
    return {name: _bytes(value) for name, value in instance.items()}


def _bytes(value: Any) -> Any:
    is_encoded = isinstance(value, dict) and list(value) == ["b64"]
    return base64.b64decode(value["b64"]) if is_encoded else value
