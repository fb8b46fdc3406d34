"""BasePippyHandler: each process of a group joins the others before it loads its stage."""

from __future__ import annotations

import os
from typing import Any

import torch
from ts.handler_utils.distributed.pt_pippy import initialize_rpc_workers
from ts.torch_handler.base_handler import BaseHandler


class BasePippyHandler(BaseHandler):
    """For models as pipelines; subclasses load the model after `super().initialize(ctx)`."""

    local_rank: int
    world_size: int

    def initialize(self, context: Any) -> None:
        """Find out which of the group this is, and join it."""
        self.local_rank = int(os.environ["LOCAL_RANK"])
        self.world_size = int(os.environ["WORLD_SIZE"])
        gpus = torch.cuda.device_count()
        self.device = self.local_rank % gpus if gpus else torch.device("cpu")
        initialize_rpc_workers(self.local_rank, self.world_size, context)
