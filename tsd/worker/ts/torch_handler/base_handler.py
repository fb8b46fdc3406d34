"""BaseHandler: load a model in any of PyTorch's formats, then preprocess, infer, postprocess.

Handlers extend it and replace the steps that differ. How files become models is in
tsd/worker/weights.py; labels, timing and classes are found beside this folder."""

from __future__ import annotations

import importlib.util
import logging
import time
from pathlib import Path
from typing import Any

import torch
from ts.context import Context
from ts.handler_utils.timer import timed
from ts.utils.util import list_classes_from_module, load_label_mapping

from tsd.worker import weights

logger = logging.getLogger(__name__)

# Found, not imported: this module is loaded before workers are forked.
ONNX_AVAILABLE = importlib.util.find_spec("onnxruntime") is not None
XLA_AVAILABLE = importlib.util.find_spec("torch_xla") is not None
IPEX_AVAILABLE = False
PT2_AVAILABLE = True

AMPERE = (8, 0)

# By name, because handlers replace these methods.
LOADERS = {
    ".pt": "_load_torchscript_model",
    ".pt2": "_load_exported_model",
    ".onnx": "_load_onnx_model",
}


class BaseHandler:
    """The handler that most handlers extend; as it stands: tensors in, lists out."""

    def __init__(self) -> None:
        self.model: Any = None
        self.mapping: dict[str, str] | None = None
        self.device: Any = None
        self.initialized = False
        self.context: Any = None
        self.model_pt_path: str | None = None
        self.manifest: Any = None
        self.map_location: str | None = None
        self.explain = False
        self.target: Any = 0
        self.profiler_args: dict[str, Any] = {}
        self.model_yaml_config: dict[str, Any] = {}

    def initialize(self, context: Context) -> None:
        """Choose the device, load the model and its labels."""
        properties = context.system_properties
        self.context = context
        self.manifest = context.manifest
        self.model_yaml_config = context.model_yaml_config or {}
        self.map_location, self.device = _choose_device(properties.get("gpu_id"))
        self.model = self._load(Path(properties["model_dir"]), self.manifest["model"])
        self.model = compiled(self.model, self.model_yaml_config.get("pt2"))
        self.mapping = load_label_mapping(Path(properties["model_dir"], "index_to_name.json"))
        self.initialized = True

    @timed
    def preprocess(self, data: Any) -> Any:
        return torch.as_tensor(data, device=self.device)

    @timed
    def inference(self, data: Any, *args: Any, **kwargs: Any) -> Any:
        with torch.inference_mode():
            return self.model(data.to(self.device), *args, **kwargs)

    @timed
    def postprocess(self, data: Any) -> list[Any]:
        rows: list[Any] = data.tolist()
        return rows

    def handle(self, data: Any, context: Context) -> Any:
        """One batch: describe, explain or predict."""
        begin = time.perf_counter()
        self.context = context
        if self._is_describe():
            return [self.describe_handle()]
        prepared = self.preprocess(data)
        if self._is_explain():
            results: Any = self.explain_handle(prepared, data)
        else:
            results = self.postprocess(self.inference(prepared))
        context.metrics.add_time("HandlerTime", (time.perf_counter() - begin) * 1000)
        return results

    def explain_handle(self, data_preprocess: Any, raw_data: Any) -> Any:
        """What `get_insights` says about the first row's `target`; subclasses define it."""
        row = raw_data[0]
        inputs = row.get("data") or row.get("body")
        self.target = row.get("target") or 0
        return self.get_insights(data_preprocess, inputs, self.target)

    def get_insights(self, tensor_data: Any, inputs: Any, target: Any = 0) -> Any:
        raise NotImplementedError(f"{type(self).__name__} explains nothing: no get_insights")

    def describe_handle(self) -> Any:
        """What a customised description adds to the model's; subclasses define it."""
        return None

    def get_device(self) -> Any:
        return self.device

    def _is_explain(self) -> bool:
        return bool(self.context.get_request_header(0, "explain") == "True")

    def _is_describe(self) -> bool:
        return bool(self.context.get_request_header(0, "describe") == "True")

    def _load(self, model_dir: Path, model: dict[str, Any]) -> Any:
        file = model.get("serializedFile")
        path = model_dir / file if file else None
        self.model_pt_path = str(path) if path else None
        if model.get("modelFile"):
            loaded = self._load_pickled_model(
                str(model_dir), model["modelFile"], self.model_pt_path
            )
            return loaded.to(self.device).eval()
        if path is None or path.suffix not in LOADERS or not path.is_file():
            raise RuntimeError("No model weights could be loaded")
        return getattr(self, LOADERS[path.suffix])(str(path))

    def _load_torchscript_model(self, model_pt_path: str) -> Any:
        return weights.open_model(Path(model_pt_path), self.device)

    def _load_exported_model(self, model_pt2_path: str) -> Any:
        return weights.open_model(Path(model_pt2_path), self.device)

    def _load_pickled_model(
        self, model_dir: str, model_file: str, model_pt_path: str | None
    ) -> torch.nn.Module:
        """The single class of the model file, with the weights where there are some."""
        model: torch.nn.Module = _only_class(Path(model_dir, model_file))()
        if model_pt_path and Path(model_pt_path).is_file():
            weights.fill(model, weights.load_state(Path(model_pt_path), self.device))
        return model

    def _load_onnx_model(self, model_onnx_path: str) -> Any:
        return setup_ort_session(model_onnx_path, self.map_location)


def compiled(model: Any, settings: Any) -> Any:
    """The model as torch.compile makes it, where the configuration's `pt2` asks for that."""
    arguments = compile_arguments(settings)
    if arguments is None:
        return model
    try:
        return torch.compile(model, **arguments)
    except (RuntimeError, ValueError, TypeError) as error:
        logger.warning("the model runs as it is, torch.compile failed: %s", error)
        return model


def compile_arguments(settings: Any) -> dict[str, Any] | None:
    """What to call torch.compile with: a backend's name, its arguments, or `compile: {…}`."""
    if isinstance(settings, str):
        return {"backend": settings}
    if not isinstance(settings, dict) or not settings:
        return None
    if "compile" not in settings:
        return None if "export" in settings else dict(settings)
    chosen = dict(settings["compile"])
    return chosen if chosen.pop("enable", False) else None


def setup_ort_session(model_pt_path: str, map_location: str | None) -> Any:
    """An onnxruntime session on the device."""
    import onnxruntime as ort  # type: ignore[import-not-found]

    providers = ["CPUExecutionProvider"]
    if map_location == "cuda":
        providers.insert(0, "CUDAExecutionProvider")
    return ort.InferenceSession(model_pt_path, providers=providers)


def _choose_device(gpu_id: int | None) -> tuple[str, torch.device]:
    if gpu_id is not None and torch.cuda.is_available():
        device = torch.device("cuda", int(gpu_id))
        if torch.cuda.get_device_capability(device) >= AMPERE:
            torch.set_float32_matmul_precision("high")
        return "cuda", device
    return "cpu", torch.device("cpu")


def _only_class(path: Path) -> Any:
    """The class that the model file defines; its folder is on the path, so it may import."""
    if not path.is_file():
        raise RuntimeError(f"Missing the model file {path.name}")
    module = importlib.import_module(path.stem)
    classes = list_classes_from_module(module)
    if len(classes) != 1:
        raise ValueError(f"{path.name} must define one class, it defines {len(classes)}")
    return classes[0]
