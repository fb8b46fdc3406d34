"""ResNet-18 with random weights, written out: a JPEG comes, the best of 1,000 classes leaves."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

SIDE = 224
MEAN, DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


class Block(nn.Module):
    """Two convolutions and a way around them."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.first = _convolution(inputs, outputs, 3, stride)
        self.second = _convolution(outputs, outputs, 3, 1)
        is_same = inputs == outputs
        self.around = nn.Identity() if is_same else _convolution(inputs, outputs, 1, stride)

    def forward(self, x: Tensor) -> Tensor:
        return torch.relu(self.second(torch.relu(self.first(x))) + self.around(x))


def _convolution(inputs: int, outputs: int, size: int, stride: int) -> nn.Module:
    layer = nn.Conv2d(inputs, outputs, size, stride, padding=size // 2, bias=False)
    return nn.Sequential(layer, nn.BatchNorm2d(outputs))


def resnet18() -> nn.Module:
    """The network, in evaluation mode."""
    layers = [_convolution(3, 64, 7, 2), nn.ReLU(), nn.MaxPool2d(3, 2, padding=1)]
    for inputs, outputs in ((64, 64), (64, 128), (128, 256), (256, 512)):
        layers += [
            Block(inputs, outputs, 1 if inputs == outputs else 2),
            Block(outputs, outputs, 1),
        ]
    layers += [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(512, 1000)]
    return nn.Sequential(*layers).eval()


torch.manual_seed(0)
network = resnet18()


def pixels(jpeg: bytes) -> Tensor:
    """The picture as the network wants it."""
    image = Image.open(io.BytesIO(jpeg)).convert("RGB").resize((SIDE, SIDE))
    values = (np.asarray(image, dtype=np.float32) / 255 - MEAN) / DEVIATION
    return torch.from_numpy(values.astype(np.float32)).permute(2, 0, 1)


@torch.inference_mode()
def handle(data: list[dict[str, Any]] | None, _context: object) -> list[bytes]:
    """The number of the best class for each picture."""
    if not data:
        return []
    scores = network(torch.stack([pixels(row["body"]) for row in data]))
    return [b"%d" % best for best in scores.argmax(dim=1).tolist()]
