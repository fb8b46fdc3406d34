"""A handler on BaseHandler with a model in plain Python."""

from typing import Any

import torch
from ts.torch_handler.base_handler import BaseHandler


class Doubling(BaseHandler):
    def preprocess(self, data: Any) -> Any:
        return torch.tensor([row["body"]["numbers"] for row in data], dtype=torch.float32)

    def get_insights(self, tensor: Any, inputs: Any, target: Any) -> Any:
        return [{"tensor": tensor.tolist(), "target": target}]

    def describe_handle(self) -> Any:
        return {"model": type(self.model).__name__, "explain": self.explain}
