"""BaseDeepSpeedHandler: each process of a group takes the GPU of its rank."""

from __future__ import annotations

import os
from typing import Any

from ts.torch_handler.base_handler import BaseHandler


class BaseDeepSpeedHandler(BaseHandler):
    """For models of DeepSpeed; subclasses load the model after `super().initialize(ctx)`."""

    def initialize(self, context: Any) -> None:
        """Find out which GPU is this process's."""
        self.device = int(os.environ.get("LOCAL_RANK", "0"))
