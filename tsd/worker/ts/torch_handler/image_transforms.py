"""The image transforms of the default handlers, as torchvision computes them, without torchvision.

Each is a callable from Pillow image to Pillow image or tensor; `Compose` joins them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from PIL import Image, ImageOps


@dataclass(frozen=True, slots=True)
class Compose:
    """One transform after the other."""

    transforms: Sequence[Callable[[Any], Any]]

    def __call__(self, image: Any) -> Any:
        for transform in self.transforms:
            image = transform(image)
        return image


class ToRGB:
    """Three channels, whatever the file had: grey, palette, CMYK or transparency."""

    def __call__(self, image: Image.Image) -> Image.Image:
        return image if image.mode == "RGB" else image.convert("RGB")


@dataclass(frozen=True, slots=True)
class Resize:
    """Scale so that the shorter side has `size` pixels."""

    size: int

    def __call__(self, image: Image.Image) -> Image.Image:
        short, long = sorted(image.size)
        if short == self.size:
            return image
        longer = int(self.size * long / short)
        is_portrait = image.width <= image.height
        size = (self.size, longer) if is_portrait else (longer, self.size)
        return image.resize(size, Image.Resampling.BILINEAR)


@dataclass(frozen=True, slots=True)
class CenterCrop:
    """The square in the middle; smaller images get a black border first."""

    size: int

    def __call__(self, image: Image.Image) -> Image.Image:
        if min(image.size) < self.size:
            image = ImageOps.expand(image, self._border(image))
        left = round((image.width - self.size) / 2)
        top = round((image.height - self.size) / 2)
        return image.crop((left, top, left + self.size, top + self.size))

    def _border(self, image: Image.Image) -> tuple[int, int, int, int]:
        wide, high = max(self.size - image.width, 0), max(self.size - image.height, 0)
        return (wide // 2, high // 2, (wide + 1) // 2, (high + 1) // 2)


class ToTensor:
    """Channels first, numbers from 0 to 1."""

    def __call__(self, image: Image.Image) -> torch.Tensor:
        data = torch.frombuffer(bytearray(image.tobytes()), dtype=torch.uint8)
        pixels = data.view(image.height, image.width, len(image.getbands()))
        return pixels.permute(2, 0, 1).contiguous().to(torch.float32).div(255)


@dataclass(frozen=True, slots=True)
class Normalize:
    """Each channel less its mean, by its standard deviation."""

    mean: Sequence[float]
    std: Sequence[float]

    def __call__(self, pixels: torch.Tensor) -> torch.Tensor:
        mean = torch.tensor(self.mean).view(-1, 1, 1)
        std = torch.tensor(self.std).view(-1, 1, 1)
        return pixels.sub(mean).div(std)


# As the models trained on ImageNet take their images.
IMAGENET = Compose(
    [
        ToRGB(),
        Resize(256),
        CenterCrop(224),
        ToTensor(),
        Normalize(mean=[0.485, 0.456, 0.406], std=[0.229, 0.224, 0.225]),
    ]
)
