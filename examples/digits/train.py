"""Train the network on scikit-learn's digits; write its weights and the images kept back.

1,437 of the 1,797 images are learned, 360 are kept back and written as PNG files named
INDEX_LABEL.png, 8 x 8 grey pixels. Two runs on one machine give the same weights."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from model import DigitNet
from PIL import Image
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from torch.nn.functional import cross_entropy

HERE = Path(__file__).parent
SEED = 7
KEPT_BACK = 360
EPOCHS = 40
BATCH = 32


def to_bytes(images: np.ndarray) -> np.ndarray:
    """The data set's 0..16 spread over 0..255; `round(pixel * 16 / 255)` is the way back."""
    return np.asarray(np.rint(images * 255 / 16), dtype=np.uint8)


def train(images: torch.Tensor, labels: torch.Tensor) -> DigitNet:
    """A network that has seen every image `EPOCHS` times, in a random but fixed order."""
    torch.manual_seed(SEED)
    model = DigitNet()
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3, weight_decay=1e-2)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, EPOCHS)
    for _ in range(EPOCHS):
        for rows in torch.randperm(len(images)).split(BATCH):  # type: ignore[no-untyped-call]
            optimizer.zero_grad()
            cross_entropy(model(images[rows]), labels[rows]).backward()  # type: ignore[no-untyped-call]
            optimizer.step()
        schedule.step()
    return model.eval()


def accuracy(model: DigitNet, images: torch.Tensor, labels: torch.Tensor) -> float:
    """The share of images whose digit is recognised."""
    with torch.inference_mode():
        return float((model(images).argmax(dim=1) == labels).float().mean())


def write_images(folder: Path, pixels: np.ndarray, labels: np.ndarray, indices: np.ndarray) -> None:
    """One small PNG for each index."""
    folder.mkdir(exist_ok=True)
    for index in indices:
        path = folder / f"{index:04d}_{labels[index]}.png"
        Image.fromarray(pixels[index]).save(path, optimize=True)


def main() -> None:
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(mode=True)
    digits = load_digits()
    pixels, labels = to_bytes(digits.images), digits.target
    learned, kept = train_test_split(
        np.arange(len(labels)), test_size=KEPT_BACK, random_state=SEED, stratify=labels
    )
    inputs = torch.from_numpy(pixels.astype(np.float32) / 255)[:, None]
    targets = torch.from_numpy(labels)
    model = train(inputs[learned], targets[learned])
    torch.save(model.state_dict(), HERE / "digits.pt")
    write_images(HERE / "images", pixels, labels, np.sort(kept))
    for name, rows in (("learned", learned), ("kept back", kept)):
        share = accuracy(model, inputs[rows], targets[rows])
        print(f"{name}: {len(rows)} images, {share:.2%} recognised")


if __name__ == "__main__":
    main()
