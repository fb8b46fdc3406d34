"""ObjectDetector: what is in an image, and where."""

from __future__ import annotations

from typing import Any

from ts.handler_utils.timer import timed
from ts.torch_handler.image_transforms import Compose, ToRGB, ToTensor
from ts.torch_handler.vision_handler import VisionHandler
from ts.utils.util import map_class_to_label


class ObjectDetector(VisionHandler):
    """For models that give each image its `boxes`, `labels` and `scores`."""

    image_processing = Compose([ToRGB(), ToTensor()])
    threshold = 0.5

    @timed
    def postprocess(self, data: Any) -> list[Any]:
        """For each image, the objects of at least the threshold's score: label, box and score."""
        return [self._objects(row) for row in data]

    def _objects(self, row: dict[str, Any]) -> list[dict[str, Any]]:
        is_sure = row["scores"] >= self.threshold
        boxes, labels, scores = (
            row[name][is_sure].tolist() for name in ("boxes", "labels", "scores")
        )
        named = map_class_to_label([[box] for box in boxes], self.mapping, [[n] for n in labels])
        return [found | {"score": score} for found, score in zip(named, scores, strict=True)]
