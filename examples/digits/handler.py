"""Images in, digits out: a whole batch is one pass through the network."""

import io
from typing import Any

import numpy as np
import torch
from PIL import Image
from ts.torch_handler.base_handler import BaseHandler

SIDE = 8


class DigitsHandler(BaseHandler):
    """Each request's body is an image file; the answer names the digit and all probabilities."""

    def preprocess(self, data: list[dict[str, Any]]) -> torch.Tensor:
        """One tensor of the batch; a body that is no image is answered 400, the others are not."""
        self.errors: dict[int, str] = {}
        return torch.stack([self._pixels(place, row) for place, row in enumerate(data)])

    def postprocess(self, data: torch.Tensor) -> list[Any]:
        answers = [_answer(row) for row in torch.softmax(data, dim=1).tolist()]
        for place, error in self.errors.items():
            self.context.set_response_status(400, "Bad Request", place)
            answers[place] = {"error": error}
        return answers

    def _pixels(self, place: int, row: dict[str, Any]) -> torch.Tensor:
        try:
            return read_image(row.get("body") or row.get("data") or b"")
        except (OSError, ValueError, TypeError) as error:
            self.errors[place] = f"not an image: {error}"
            return torch.zeros(1, SIDE, SIDE)


def read_image(content: bytes) -> torch.Tensor:
    """The pixels of an image file, from 0 to 1; other sizes are scaled."""
    image = Image.open(io.BytesIO(content)).convert("L")
    if image.size != (SIDE, SIDE):
        image = image.resize((SIDE, SIDE), Image.Resampling.BOX)
    return torch.from_numpy(np.array(image, dtype=np.float32)).div_(255)[None]


def _answer(probabilities: list[float]) -> dict[str, Any]:
    digit = max(range(len(probabilities)), key=probabilities.__getitem__)
    return {"digit": digit, "probabilities": dict(zip("0123456789", probabilities, strict=True))}
