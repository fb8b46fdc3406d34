"""A model of 400 MB: one layer, whose weights come from a file."""

from __future__ import annotations

import torch

SIDE = 10_000


class Large(torch.nn.Module):
    """The one layer."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = torch.nn.Linear(SIDE, SIDE, bias=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """A vector of the same length."""
        return self.layer(x)
