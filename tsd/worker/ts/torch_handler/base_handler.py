"""BaseHandler: load a model in any of PyTorch's formats, then preprocess, infer, postprocess.

Handlers extend it and replace the steps that differ. How files become models is in
tsd/worker/weights.py, torch.compile in compiling.py; labels, timing and classes are found beside
this folder."""

from __future__ import annotations

import abc
import importlib
import importlib.util
import logging
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch.profiler import (
    ProfilerActivity,
    profile,
    record_function,
    tensorboard_trace_handler,
)
from ts.context import Context
from ts.handler_utils.timer import timed
from ts.torch_handler.compiling import IPEX_AVAILABLE, PT2_AVAILABLE, compiled_and_warm
from ts.utils.util import list_classes_from_module, load_label_mapping

from tsd.worker import warming, weights

__all__ = [
    "IPEX_AVAILABLE",
    "ONNX_AVAILABLE",
    "PROFILER_AVAILABLE",
    "PT2_AVAILABLE",
    "XLA_AVAILABLE",
    "BaseHandler",
    "setup_ort_session",
]

logger = logging.getLogger(__name__)

# Found, not imported: this module is loaded before workers are forked.
ONNX_AVAILABLE = importlib.util.find_spec("onnxruntime") is not None
XLA_AVAILABLE = importlib.util.find_spec("torch_xla") is not None
PROFILER_AVAILABLE = True

AMPERE = (8, 0)
TRACE_FOLDER = Path("/tmp/pytorch_profiler")

# By name, because handlers replace these methods.
LOADERS = {
    ".pt": "_load_torchscript_model",
    ".pt2": "_load_exported_model",
    ".onnx": "_load_onnx_model",
}


class BaseHandler(abc.ABC):  # noqa: B024 (so that subclasses may have abstract methods)
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
        self.model_yaml_config = getattr(context, "model_yaml_config", None) or {}
        self.map_location, self.device = choose_device(properties.get("gpu_id"))
        self.model = self._load(Path(properties["model_dir"]), self.manifest["model"])
        self.model = self._compiled_and_warm(properties.get("batch_size") or 1)
        self.mapping = load_label_mapping(Path(properties["model_dir"], "index_to_name.json"))
        self.initialized = True

    @timed
    def preprocess(self, data: Any) -> Any:
        """Rows to a tensor on the device."""
        return torch.as_tensor(data, device=self.device)

    @timed
    def inference(self, data: Any, *args: Any, **kwargs: Any) -> Any:
        """What the model makes of the tensor."""
        with torch.inference_mode():
            return self.model(data.to(self.device), *args, **kwargs)

    @timed
    def postprocess(self, data: Any) -> list[Any]:
        """The model's output as one result for each request."""
        rows: list[Any] = data.tolist()
        return rows

    def handle(self, data: Any, context: Context) -> Any:
        """One batch: describe, explain or predict."""
        return self._handle_with(data, context, self._predict)

    def explain_handle(self, data_preprocess: Any, raw_data: Any) -> Any:
        """What `get_insights` says about the first row and its `target`."""
        row = raw_data[0] if isinstance(raw_data[0], dict) else {}
        inputs = row.get("data") or row.get("body")
        return self.get_insights(data_preprocess, inputs, row.get("target") or 0)

    def get_insights(self, tensor_data: Any, inputs: Any, target: Any = 0) -> Any:
        """The explanation; subclasses define it."""
        raise NotImplementedError(f"{type(self).__name__} explains nothing: no get_insights")

    def describe_handle(self) -> Any:
        """What a customised description adds to the model's; subclasses define it."""
        return None

    def get_device(self) -> Any:
        """The device that the model is on."""
        return self.device

    def _handle_with(self, data: Any, context: Context, predict: Callable[[Any], Any]) -> Any:
        """One batch, where `predict` makes predictions of rows."""
        begin = time.perf_counter()
        self.context = context
        if self._is_describe():
            results: Any = [self.describe_handle()]
        elif os.environ.get("ENABLE_TORCH_PROFILER"):
            results, _ = self._infer_with_profiler(data=data)
        elif self._is_explain():
            results = self.explain_handle(self.preprocess(data), data)
        else:
            results = predict(data)
        elapsed_ms = (time.perf_counter() - begin) * 1000
        context.metrics.add_time("HandlerTime", round(elapsed_ms, 2), None, "ms")
        return results

    def _predict(self, data: Any) -> Any:
        return self.postprocess(self.inference(self.preprocess(data)))

    def _infer_with_profiler(self, data: Any) -> tuple[Any, profile]:
        """The results, and the profile of their steps, by `profiler_args`.

        Where these do not say otherwise, a trace goes to /tmp/pytorch_profiler/MODEL."""
        with profile(**self._default_profile() | self.profiler_args) as prof:
            with record_function("preprocess"):
                prepared = self.preprocess(data)
            if self._is_explain():
                with record_function("explain"):
                    results = self.explain_handle(prepared, data)
            else:
                with record_function("inference"):
                    output = self.inference(prepared)
                with record_function("postprocess"):
                    results = self.postprocess(output)
        logger.info(prof.key_averages().table(sort_by="cpu_time_total", row_limit=10))
        return results, prof

    def _default_profile(self) -> dict[str, Any]:
        manifest = self.manifest or self.context.manifest or {}
        folder = TRACE_FOLDER / manifest.get("model", {}).get("modelName", "")
        activities = [ProfilerActivity.CPU]
        if torch.cuda.is_available():
            activities.append(ProfilerActivity.CUDA)
        return {
            "activities": activities,
            "record_shapes": True,
            "on_trace_ready": tensorboard_trace_handler(str(folder)),
        }

    def _is_explain(self) -> bool:
        # No attribute of `__init__` is read for a prediction: many handlers have one of their own
        # that does not call this class's.
        if self._header("explain") != "True":
            return False
        self.explain = True
        return True

    def _is_describe(self) -> bool:
        return bool(self._header("describe") == "True")

    def _header(self, name: str) -> Any:
        return self.context.get_request_header(0, name) if self.context else None

    def _load(self, model_dir: Path, model: dict[str, Any]) -> Any:
        file = model.get("serializedFile")
        path = model_dir / file if file else None
        self.model_pt_path = str(path) if path else None
        if model.get("modelFile"):
            loaded = self._load_pickled_model(
                str(model_dir), model["modelFile"], self.model_pt_path
            )
            return loaded.to(self.device).eval()
        if path is not None and path.is_file():
            if path.suffix == ".so" and self._use_torch_export_aot_compile():
                return self._load_torch_export_aot_compile(str(path))
            if path.suffix in LOADERS:
                loaded = getattr(self, LOADERS[path.suffix])(str(path))
                if path.suffix == ".pt":
                    # Whoever replaces the method need not think of it.
                    loaded.eval()
                return loaded
        raise RuntimeError("No model weights could be loaded")

    def _compiled_and_warm(self, batch_size: int) -> Any:
        shapes = warming.row_shapes(self.model_yaml_config.get("warmUp"))

        def warm(model: Any) -> None:
            warming.warm(model, shapes, batch_size, self.device)

        settings = self.model_yaml_config.get("pt2")
        return compiled_and_warm(self.model, settings, self.device, warm)

    def _load_torchscript_model(self, model_pt_path: str) -> Any:
        # A module that was compiled for TensorRT can be loaded only where this was imported.
        if importlib.util.find_spec("torch_tensorrt"):
            importlib.import_module("torch_tensorrt")
        return weights.open_model(Path(model_pt_path), self.device)

    def _load_exported_model(self, model_pt2_path: str) -> Any:
        return weights.open_model(Path(model_pt2_path), self.device)

    def _load_torch_export_aot_compile(self, model_so_path: str) -> Any:
        return weights.open_shared_library(Path(model_so_path), self.device)

    def _use_torch_export_aot_compile(self) -> bool:
        """Whether the configuration says `pt2: {export: {aot_compile: true}}`."""
        settings = self.model_yaml_config.get("pt2")
        export = settings.get("export") if isinstance(settings, dict) else None
        return isinstance(export, dict) and export.get("aot_compile") is True

    def _load_pickled_model(
        self, model_dir: str, model_file: str, model_pt_path: str | None
    ) -> torch.nn.Module:
        """The single class of the model file, with the weights where there are some."""
        model: torch.nn.Module = _only_class(Path(model_dir, model_file))()
        if model_pt_path and Path(model_pt_path).is_file():
            weights.fill(model, weights.load_state(Path(model_pt_path), self.device))
        return model

    def _load_onnx_model(self, model_onnx_path: str) -> Any:
        if not ONNX_AVAILABLE:
            reason = "the runtime has no onnxruntime"
            raise RuntimeError(f"No model weights could be loaded: {reason}")
        return setup_ort_session(model_onnx_path, self.map_location)


def setup_ort_session(model_pt_path: str, map_location: str | None) -> Any:
    """An onnxruntime session on the device, with as many threads as torch has in this worker."""
    import onnxruntime as ort

    providers = ["CPUExecutionProvider"]
    if map_location == "cuda":
        providers.insert(0, "CUDAExecutionProvider")
    options = ort.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    return ort.InferenceSession(model_pt_path, sess_options=options, providers=providers)


def choose_device(gpu_id: Any) -> tuple[str | None, torch.device]:
    """Where to map weights to, and the device: the GPU of that number if torch can use it."""
    if gpu_id is not None and torch.cuda.is_available():
        device = torch.device("cuda", int(gpu_id))
        # Else what names no device makes a second context, on the first GPU.
        torch.cuda.set_device(device)
        if torch.cuda.get_device_capability(device) >= AMPERE:
            torch.set_float32_matmul_precision("high")
        return "cuda", device
    is_xpu_wanted = os.environ.get("TS_IPEX_GPU_ENABLE", "false") == "true"
    if gpu_id is not None and is_xpu_wanted and torch.xpu.is_available():
        return "xpu", torch.device("xpu", int(gpu_id))
    if XLA_AVAILABLE:
        device = importlib.import_module("torch_xla.core.xla_model").xla_device()
        return None, device
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
