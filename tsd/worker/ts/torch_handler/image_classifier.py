"""ImageClassifier: the five most probable classes of an image, by name."""

from __future__ import annotations

from typing import Any

import torch
from ts.handler_utils.timer import timed
from ts.torch_handler.image_transforms import IMAGENET
from ts.torch_handler.vision_handler import VisionHandler
from ts.utils.util import map_class_to_label


class ImageClassifier(VisionHandler):
    """Takes images as the models trained on ImageNet want them; others set `image_processing`."""

    topk = 5

    image_processing = IMAGENET

    def set_max_result_classes(self, topk: int) -> None:
        """How many classes an answer names."""
        self.topk = topk

    def get_max_result_classes(self) -> int:
        """How many classes an answer names."""
        return self.topk

    @timed
    def postprocess(self, data: Any) -> list[Any]:
        """For each image, label to probability, the best first."""
        count = min(self.topk, data.shape[1])
        probabilities, classes = torch.topk(torch.softmax(data, dim=1), count, dim=1)
        return map_class_to_label(probabilities.tolist(), self.mapping, classes.tolist())
