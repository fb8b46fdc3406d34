"""The example with real data: served, it says exactly what it says in this process."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest
import torch

from tests.support.daemon import RunningDaemon
from tsctl.commands.pack import PackRequest, pack

DIGITS = Path(__file__).parents[2] / "examples" / "digits"
IMAGES = sorted((DIGITS / "images").glob("*.png"))


def load_module(path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"digits_{path.stem}", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def labels_in_process(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """What the network says of each image, with no server between."""
    monkeypatch.syspath_prepend(str(Path(__file__).parents[2] / "tsd" / "worker"))
    network_class = next(
        value
        for value in vars(load_module(DIGITS / "model.py")).values()
        if isinstance(value, type) and issubclass(value, torch.nn.Module)
    )
    network = network_class()
    network.load_state_dict(torch.load(DIGITS / "digits.pt", weights_only=True))
    network.eval()
    read_image = load_module(DIGITS / "handler.py").read_image
    with torch.inference_mode():
        pixels = torch.stack([read_image(path.read_bytes()) for path in IMAGES])
        labels = [int(label) for label in network(pixels).argmax(dim=1)]
    for name in [name for name in sys.modules if name.partition(".")[0] == "ts"]:
        monkeypatch.delitem(sys.modules, name)
    return labels


def test_served_labels_equal_those_in_process_and_are_right(
    daemon: RunningDaemon, tmp_path: Path, labels_in_process: list[int]
) -> None:
    archive = pack(
        PackRequest(
            model_name="digits",
            handler=str(DIGITS / "handler.py"),
            model_file=DIGITS / "model.py",
            serialized_file=DIGITS / "digits.pt",
            config_file=DIGITS / "model-config.yaml",
            export_path=tmp_path,
        )
    )
    daemon.register(archive)
    served = [
        daemon.call("POST", "/predictions/digits", path.read_bytes()).json()["digit"]
        for path in IMAGES
    ]
    true = [int(path.stem.partition("_")[2]) for path in IMAGES]
    assert len(served) == 360
    assert served == labels_in_process
    right = sum(a == b for a, b in zip(served, true, strict=True))
    assert right / len(true) >= 0.95
