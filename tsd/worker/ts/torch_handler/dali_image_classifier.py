"""DALIImageClassifier: ImageClassifier with DALI's preprocessing; needs nvidia-dali."""

from __future__ import annotations

from ts.torch_handler.dali_handler import DALIHandler
from ts.torch_handler.image_classifier import ImageClassifier


class DALIImageClassifier(DALIHandler, ImageClassifier):
    """The five most probable classes of an image, by name."""
