"""A convolutional network for handwritten digits of 8 x 8 pixels: 10,000 numbers in all."""

import torch
from torch import nn


class DigitNet(nn.Module):
    """Grey images, (rows, 1, 8, 8) from 0 to 1, to one score for each digit."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(1, 16, kernel_size=3, padding=1),
            nn.ReLU(),
            nn.Conv2d(16, 32, kernel_size=3, padding=1),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Flatten(),
            nn.Linear(32 * 4 * 4, 10),
        )

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        scores: torch.Tensor = self.layers(images)
        return scores
