"""Handlers of images answer in TorchServe's forms, in batches and with transforms of one's own."""

import base64
import io
import json
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from PIL import Image
from ts.torch_handler.densenet_handler import DenseNetHandler
from ts.torch_handler.image_classifier import ImageClassifier
from ts.torch_handler.image_segmenter import ImageSegmenter
from ts.torch_handler.object_detector import ObjectDetector

from tests.unit.worker.ts.contexts import asked, context_of

CPU = torch.device("cpu")


def png(color: Any, size: tuple[int, int] = (8, 8), mode: str = "RGB") -> bytes:
    stream = io.BytesIO()
    Image.new(mode, size, color).save(stream, "PNG")
    return stream.getvalue()


def brightness(images: torch.Tensor) -> torch.Tensor:
    """Scores of three classes: the brightest channel wins."""
    return images.mean(dim=(2, 3))


def segment(images: torch.Tensor) -> dict[str, torch.Tensor]:
    """Each pixel's class is its brightest channel."""
    return {"out": images, "aux": images}


def detect(images: torch.Tensor) -> list[dict[str, torch.Tensor]]:
    """Three objects in each image, as sure as the image is red, half of that, and surely not."""
    return [
        {
            "boxes": torch.tensor([[0.0, 1.0, 2.0, 3.0], [4.0, 5.0, 6.0, 7.0], [0.0] * 4]),
            "labels": torch.tensor([1, 2, 1]),
            "scores": torch.stack([image[0].max(), image[0].max() / 2, torch.tensor(0.1)]),
        }
        for image in images
    ]


def ready(handler: Any, model: Any, mapping: dict[str, str] | None = None) -> Any:
    handler.model, handler.device, handler.mapping = model, CPU, mapping
    return handler


def test_the_segmenter_names_the_class_and_probability_of_each_pixel() -> None:
    handler = ready(ImageSegmenter(), segment)
    rows = [{"data": png("red", (300, 260))}, {"body": png("blue", (256, 256))}]
    red, blue = handler.handle(rows, context_of(Path()))
    assert (len(red), len(red[0]), len(red[0][0])) == (224, 224, 2)
    assert {pixel[0] for line in red for pixel in line} == {0.0}
    assert {pixel[0] for line in blue for pixel in line} == {2.0}
    image = ImageSegmenter.image_processing(Image.new("RGB", (256, 256), "blue"))
    assert blue[0][0][1] == pytest.approx(torch.softmax(image[:, 0, 0], 0).max().item())


def test_the_detector_names_what_it_is_sure_of() -> None:
    handler = ready(ObjectDetector(), detect, {"1": "cat", "2": "dog"})
    answers = handler.handle([{"data": png("red")}, {"data": png("black")}], context_of(Path()))
    assert answers == [
        [
            {"cat": [0.0, 1.0, 2.0, 3.0], "score": 1.0},
            {"dog": [4.0, 5.0, 6.0, 7.0], "score": 0.5},
        ],
        [],
    ]
    assert list(answers[0][0]) == ["cat", "score"]


def test_the_threshold_is_the_subclass_own() -> None:
    class Sure(ObjectDetector):
        threshold = 0.9

    handler = ready(Sure(), detect)
    assert len(handler.handle([{"data": png("red")}], context_of(Path()))[0]) == 1


@pytest.mark.parametrize(
    "row",
    [
        {"data": png("red")},
        {"body": bytearray(png("red"))},
        {"body": base64.b64encode(png("red")).decode()},
        {"body": ImageClassifier.image_processing(Image.new("RGB", (8, 8), "red")).tolist()},
        {"data": png((255, 0, 0, 255), mode="RGBA")},
        {"data": None, "body": png("red")},
    ],
)
def test_an_image_comes_as_bytes_base64_or_numbers(row: dict[str, Any]) -> None:
    handler = ready(ImageClassifier(), brightness, {"0": "red"})
    (answer,) = handler.handle([row], context_of(Path()))
    assert next(iter(answer)) == "red"
    assert sum(answer.values()) == pytest.approx(1)


def test_transforms_of_torchvision_take_the_place_of_ours() -> None:
    transforms = pytest.importorskip("torchvision.transforms")
    steps = [transforms.Resize(256), transforms.CenterCrop(224), transforms.ToTensor()]

    class Own(ImageClassifier):
        image_processing = transforms.Compose(steps)

    handler = ready(Own(), brightness)
    (answer,) = handler.handle([{"data": png("red")}], context_of(Path()))
    assert next(iter(answer)) == "0"


@pytest.mark.parametrize("size", [(300, 400), (257, 900), (30, 20), (224, 224)])
def test_our_transforms_are_torchvisions(size: tuple[int, int]) -> None:
    transforms = pytest.importorskip("torchvision.transforms")
    steps = [
        transforms.Resize(256),
        transforms.CenterCrop(224),
        transforms.ToTensor(),
        transforms.Normalize(mean=[0.485, 0.456, 0.406], std=[0.229, 0.224, 0.225]),
    ]
    image = Image.effect_mandelbrot(size, (-2, -1, 1, 1), 100).convert("RGB")
    theirs = transforms.Compose(steps)(image)
    assert torch.equal(ImageClassifier.image_processing(image), theirs)


def test_an_explanation_is_an_attribution_of_each_pixel() -> None:
    pytest.importorskip("captum")
    handler = ready(ImageClassifier(), brightness)
    rows = [{"data": png("red"), "target": 0}]
    (answer,) = handler.handle(rows, asked(context_of(Path()), explain="True"))
    assert torch.tensor(answer).shape == (3, 224, 224)
    assert handler.ig is handler.ig


def test_an_explainer_of_ones_own_is_used() -> None:
    handler = ready(ImageClassifier(), brightness)
    handler.ig = SimpleNamespace(attribute=lambda rows, target, n_steps: rows * 0 + target)
    rows = [{"data": png("red"), "target": 2}]
    (answer,) = handler.handle(rows, asked(context_of(Path()), explain="True"))
    assert answer[0][0][0] == 2.0


def test_an_explanation_without_captum_says_what_is_missing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "captum.attr", None)
    handler = ready(ImageClassifier(), brightness)
    with pytest.raises(ImportError, match="an explanation needs captum"):
        handler.handle([{"data": png("red")}], asked(context_of(Path()), explain="True"))


def test_densenet_takes_saved_tensors_and_answers_with_tensors() -> None:
    stream = io.BytesIO()
    torch.save(torch.ones(3), stream)
    handler = ready(DenseNetHandler(), lambda rows: rows * 2)
    answers = handler.handle([{"body": bytearray(stream.getvalue())}] * 2, context_of(Path()))
    assert [answer.tolist() for answer in answers] == [[[2.0, 2.0, 2.0]]] * 2


def test_labels_are_read_beside_the_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "index_to_name.json").write_text(json.dumps({"0": ["n0", "red"]}))
    (tmp_path / "tiny.py").write_text(
        "import torch\nclass Tiny(torch.nn.Module):\n"
        "    def forward(self, images): return images.mean(dim=(2, 3))\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    handler, context = ImageClassifier(), context_of(tmp_path, {"modelFile": "tiny.py"})
    handler.initialize(context)
    assert handler.initialized
    assert next(iter(handler.handle([{"data": png("red")}], context)[0])) == "red"
