"""ImageSegmenter: the most probable class of each pixel."""

from __future__ import annotations

from typing import Any

import torch
from ts.handler_utils.timer import timed
from ts.torch_handler.image_transforms import IMAGENET
from ts.torch_handler.vision_handler import VisionHandler


class ImageSegmenter(VisionHandler):
    """For models whose output `out` holds images by classes by height by width."""

    image_processing = IMAGENET

    @timed
    def postprocess(self, data: Any) -> list[Any]:
        """For each image, rows of pixels, each its class and the probability of that."""
        probabilities, classes = torch.softmax(data["out"], dim=1).max(dim=1)
        pixels: list[Any] = torch.stack([classes.to(probabilities), probabilities], dim=3).tolist()
        return pixels
