"""VisionHandler: what handlers of images share. Bytes or base64 text to a batch of tensors."""

from __future__ import annotations

import base64
import io
from collections.abc import Callable
from functools import cached_property
from typing import Any

import torch
from PIL import Image
from ts.context import Context
from ts.handler_utils.optional import library
from ts.handler_utils.timer import timed
from ts.torch_handler.base_handler import BaseHandler


class VisionHandler(BaseHandler):
    """A handler of images; subclasses set `image_processing` and say what the answer is."""

    image_processing: Callable[[Any], Any]

    @cached_property
    def ig(self) -> Any:
        """What explains the model, by integrated gradients; made when first asked for."""
        return library("captum.attr", "an explanation").IntegratedGradients(self.model)

    def initialize(self, context: Context) -> None:
        """Load the model; lift Pillow's limit of pixels where the server was told to."""
        super().initialize(context)
        if not context.system_properties.get("limit_max_image_pixels", True):
            Image.MAX_IMAGE_PIXELS = None

    @timed
    def preprocess(self, data: Any) -> torch.Tensor:
        """One tensor for the batch: each row holds an image, or its pixels as lists."""
        return torch.stack([self._image(row) for row in data]).to(self.device)

    def get_insights(self, tensor_data: Any, _: Any, target: Any = 0) -> Any:
        """How much each pixel speaks for the target."""
        return self.ig.attribute(tensor_data, target=target, n_steps=15).tolist()

    def _image(self, row: dict[str, Any]) -> Any:
        content = row.get("data")
        if content is None:
            content = row.get("body")
        if isinstance(content, str):
            content = base64.b64decode(content)
        if isinstance(content, bytes | bytearray):
            return self.image_processing(Image.open(io.BytesIO(content)))
        return torch.FloatTensor(content)
