"""DenseNetHandler: tensors as torch.save wrote them, in and out. Kept for old archives."""

from __future__ import annotations

import io
from typing import Any

import torch
from ts.torch_handler.base_handler import BaseHandler


class DenseNetHandler(BaseHandler):
    """Takes a saved tensor in each request; they run as one batch."""

    def preprocess(self, data: Any) -> Any:
        """The tensors of all requests; no code in a request is run."""
        return torch.stack([_tensor(row) for row in data]).to(self.device)

    def postprocess(self, data: Any) -> list[Any]:
        """For each request, the output of a batch of one."""
        return list(data.split(1))


def _tensor(row: dict[str, Any]) -> Any:
    saved = row.get("data") or row.get("body")
    return torch.load(io.BytesIO(saved or b""), map_location="cpu", weights_only=True)
