"""Answers with all weights of the large model, so that every page of them has been read."""

from __future__ import annotations

from typing import Any

import torch
from ts.torch_handler.base_handler import BaseHandler


class LargeHandler(BaseHandler):
    """What the request holds does not matter."""

    @torch.inference_mode()
    def handle(self, data: list[dict[str, Any]], context: Any) -> list[str]:
        ones = torch.ones(self.model.layer.in_features)
        return [str(float(self.model(ones).sum()))] * len(data)
