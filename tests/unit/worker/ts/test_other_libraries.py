"""Handlers over DeepSpeed, PiPPy and DALI call these as documented; no test machine has them."""

import json
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch.distributed import rpc
from ts.handler_utils.distributed.deepspeed import create_checkpoints_json, get_ds_engine
from ts.handler_utils.distributed.pt_pippy import get_pipeline_driver
from ts.handler_utils.preprocess.dali import get_dali_pipeline
from ts.torch_handler.dali_image_classifier import DALIImageClassifier
from ts.torch_handler.distributed.base_deepspeed_handler import BaseDeepSpeedHandler
from ts.torch_handler.distributed.base_pippy_handler import BasePippyHandler

from tests.unit.worker.ts.contexts import context_of

DALI = {"batch_size": 2, "num_threads": 1, "device_id": 0, "seed": 3}


def test_checkpoints_are_listed_for_deepspeed(tmp_path: Path) -> None:
    for name in ("a.bin", "b.pt", "c.txt"):
        (tmp_path / name).touch()
    create_checkpoints_json(tmp_path, tmp_path / "list.json")
    content = json.loads((tmp_path / "list.json").read_text())
    assert content == {
        "type": "ds_model",
        "checkpoints": [str(tmp_path / "a.bin"), str(tmp_path / "b.pt")],
        "version": 1.0,
    }


def test_deepspeed_is_called_as_the_configuration_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    library: Any = SimpleNamespace(init_inference=lambda model, **given: (model, given))
    monkeypatch.setitem(sys.modules, "deepspeed", library)
    (tmp_path / "ds.json").write_text("{}")
    settings = {"config": "ds.json", "checkpoint": "list.json"}
    context = context_of(tmp_path, deepspeed=settings, handler={"model_path": str(tmp_path)})
    model, given = get_ds_engine("model", context)
    assert model == "model"
    assert given == {
        "config": str(tmp_path / "ds.json"),
        "base_dir": str(tmp_path),
        "checkpoint": str(tmp_path / "list.json"),
    }
    (tmp_path / "ds.json").unlink()
    with pytest.raises(ValueError, match="no deepspeed config"):
        get_ds_engine("model", context)
    with pytest.raises(ValueError, match="has no deepspeed"):
        get_ds_engine("model", context_of(tmp_path))


def test_a_deepspeed_handler_takes_the_gpu_of_its_rank(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LOCAL_RANK", "3")
    handler = BaseDeepSpeedHandler()
    handler.initialize(context_of(tmp_path))
    assert handler.device == 3


class Staged(torch.nn.Module):
    def forward(self, rows: Any, scale: int = 2) -> Any:
        return rows * scale


@pytest.mark.parametrize("kind", ["HF", "other"])
def test_a_pipeline_is_cut_as_the_configuration_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    calls: list[Any] = []

    def all_compile(model: Any, **given: Any) -> tuple[str, None]:
        calls.append(given)
        return "driver", None

    library: Any = SimpleNamespace(
        all_compile=all_compile, split_into_equal_size=lambda size: ("equal", size)
    )
    huggingface: Any = SimpleNamespace(
        PiPPyHFTracer=lambda: "tracer", inject_pipeline_forward=lambda *given: calls.append(given)
    )
    monkeypatch.setitem(sys.modules, "pippy", library)
    monkeypatch.setitem(sys.modules, "pippy.hf", huggingface)
    settings = {"input_names": ["rows"], "model_type": kind, "chunks": 4}
    context = context_of(tmp_path, pippy=settings, handler={"model_path": str(tmp_path)})
    model = Staged()
    driver = get_pipeline_driver(model, 2, context)
    assert (calls[0]["num_ranks"], calls[0]["num_chunks"]) == (2, 4)
    assert calls[0]["concrete_args"] == {"scale": 2}
    assert driver is model if kind == "HF" else driver == "driver"
    assert calls[1:] == ([(model, "driver")] if kind == "HF" else [])


def test_what_a_pipeline_lacks_is_named(tmp_path: Path) -> None:
    yaml: dict[str, Any]
    for yaml, word in [
        ({}, "pippy"),
        ({"pippy": {}}, "handler"),
        ({"pippy": {}, "handler": {}}, "input_names"),
    ]:
        with pytest.raises(ValueError, match=f"has no {word}"):
            get_pipeline_driver(Staged(), 1, context_of(tmp_path, **yaml))
    yaml = {
        "pippy": {"input_names": [], "model_type": ""},
        "handler": {"model_path": str(tmp_path), "index_filename": "gone.json"},
    }
    with pytest.raises(ValueError, match="no index file"):
        get_pipeline_driver(Staged(), 1, context_of(tmp_path, **yaml))


def test_a_pippy_handler_joins_its_group(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    joined: list[Any] = []
    monkeypatch.setattr(rpc, "init_rpc", lambda name, **given: joined.append((name, given)))
    monkeypatch.setenv("LOCAL_RANK", "1")
    monkeypatch.setenv("WORLD_SIZE", "2")
    handler = BasePippyHandler()
    settings = {"rpc_timeout": 30, "num_worker_threads": 8}
    handler.initialize(context_of(tmp_path, pippy=settings))
    ((name, given),) = joined
    assert (name, given["rank"], given["world_size"]) == ("worker1", 1, 2)
    assert given["rpc_backend_options"].rpc_timeout == 30


class Pipeline:
    """Stands for DALI's: gives each image as its number of bytes."""

    def __init__(self, **given: Any) -> None:
        self.given = given

    @classmethod
    def deserialize(cls, filename: str, **given: Any) -> "Pipeline":
        return cls(filename=filename, **given)

    def run(self, source: list[np.ndarray]) -> Any:
        images = [np.full((3, 2, 2), len(encoded), dtype=np.float32) for encoded in source]
        outputs = SimpleNamespace(at=lambda index: images[index])
        return [SimpleNamespace(as_cpu=lambda: outputs)]


def test_dali_prepares_the_images(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    library: Any = SimpleNamespace(Pipeline=Pipeline)
    monkeypatch.setitem(sys.modules, "nvidia.dali.pipeline", library)
    (tmp_path / "p.dali").touch()
    context = context_of(tmp_path, dali={**DALI, "pipeline_file": "p.dali"})
    handler = DALIImageClassifier()
    handler.pipeline = get_dali_pipeline(context)
    assert handler.pipeline.given["filename"] == str(tmp_path / "p.dali")
    handler.device = torch.device("cpu")
    handler.model = lambda images: images.mean(dim=(2, 3))
    assert handler.preprocess([{"data": b"123"}, {"body": bytearray(b"1")}]).mean(
        dim=(1, 2, 3)
    ).tolist() == [3.0, 1.0]
    assert len(handler.handle([{"data": b"123"}], context)) == 1


class Recorded:
    """Stands for DALI's functions: keeps which were called, and with what."""

    def __init__(self) -> None:
        self.calls: dict[str, dict[str, Any]] = {}
        self.decoders = self

    def __getattr__(self, name: str) -> Any:
        def call(*_: Any, **given: Any) -> str:
            self.calls[name] = given
            return name

        return call


class Building(Pipeline):
    outputs: Any = None
    is_built = False

    def __enter__(self) -> "Building":
        return self

    def __exit__(self, *_: object) -> None: ...

    def set_outputs(self, *outputs: Any) -> None:
        self.outputs = outputs

    def build(self) -> None:
        self.is_built = True


def test_dali_has_a_pipeline_for_imagenet_models(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    functions: Any = Recorded()
    libraries: dict[str, Any] = {
        "nvidia.dali.pipeline": SimpleNamespace(Pipeline=Building),
        "nvidia.dali.fn": functions,
        "nvidia.dali.types": SimpleNamespace(UINT8="uint8"),
    }
    for name, library in libraries.items():
        monkeypatch.setitem(sys.modules, name, library)
    pipeline = get_dali_pipeline(context_of(tmp_path, dali=DALI))
    assert pipeline.given == {**DALI, "prefetch_queue_depth": 1}
    assert (pipeline.outputs, pipeline.is_built) == (("crop_mirror_normalize",), True)
    assert functions.calls["external_source"] == {"name": "source", "dtype": "uint8"}
    assert functions.calls["resize"] == {"size": [256], "mode": "not_smaller"}
    assert functions.calls["crop_mirror_normalize"]["crop"] == (224, 224)


def test_what_dali_lacks_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ValueError, match="has no dali"):
        get_dali_pipeline(context_of(tmp_path))
    monkeypatch.setitem(sys.modules, "nvidia.dali.pipeline", None)
    with pytest.raises(ImportError, match="get_dali_pipeline needs nvidia"):
        get_dali_pipeline(context_of(tmp_path, dali=DALI))
    library: Any = SimpleNamespace(Pipeline=Pipeline)
    monkeypatch.setitem(sys.modules, "nvidia.dali.pipeline", library)
    with pytest.raises(RuntimeError, match="no DALI pipeline file"):
        get_dali_pipeline(context_of(tmp_path, dali={**DALI, "pipeline_file": "gone"}))
