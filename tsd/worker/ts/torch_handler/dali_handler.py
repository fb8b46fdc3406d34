"""DALIHandler: images decoded and scaled on the GPU by NVIDIA's DALI, which the runtime needs."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from ts.context import Context
from ts.handler_utils.preprocess.dali import get_dali_pipeline
from ts.torch_handler.vision_handler import VisionHandler


class DALIHandler(VisionHandler):
    """A handler of images whose pipeline the model's configuration describes under `dali`."""

    pipeline: Any

    def initialize(self, context: Context) -> None:
        """Load the model and make the pipeline."""
        super().initialize(context)
        self.pipeline = get_dali_pipeline(context)

    def preprocess(self, data: Any) -> torch.Tensor:
        """One tensor for the batch of encoded images."""
        encoded = [
            np.frombuffer(row.get("data") or row.get("body"), dtype=np.uint8) for row in data
        ]
        images = self.pipeline.run(source=encoded)[0].as_cpu()
        tensors = [torch.tensor(np.asarray(images.at(index))) for index in range(len(encoded))]
        return torch.stack(tensors).to(self.device)
