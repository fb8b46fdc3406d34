"""The exception with a status, the classes of a module, label files, and torch.compile's names."""

from __future__ import annotations

import enum
import functools
import inspect
import json
import logging
import re
import warnings
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any, TypeVar

from ts.handler_utils.optional import library

logger = logging.getLogger(__name__)

Function = TypeVar("Function", bound=Callable[..., Any])

# HTML: a tag, or a character by its name or number.
CLEANUP_REGEX = re.compile(r"<.*?>|&(?:[a-z0-9]+|#[0-9]{1,6}|#x[0-9a-f]{1,6});")


class PT2Backend(enum.StrEnum):
    """The backends of torch.compile that TorchServe names."""

    EAGER = "eager"
    AOT_EAGER = "aot_eager"
    INDUCTOR = "inductor"
    NVFUSER = "nvfuser"
    AOT_NVFUSER = "aot_nvfuser"
    AOT_CUDAGRAPHS = "aot_cudagraphs"
    OFI = "ofi"
    FX2TRT = "fx2trt"
    ONNXRT = "onnxrt"
    IPEX = "ipex"
    TORCHXLA_TRACE_ONCE = "torchxla_trace_once"
    OPENVINO = "openvino"
    TENSORRT = "tensorrt"
    HPU_BACKEND = "hpu_backend"


class PredictionException(Exception):
    """A refusal: its message and its status go to the client as they are."""

    def __init__(self, message: str, error_code: int = 500) -> None:
        super().__init__(message, error_code)
        self.message = message
        self.error_code = error_code

    def __str__(self) -> str:
        return f"{self.message} : {self.error_code}"


def list_classes_from_module(module: ModuleType, parent_class: type | None = None) -> list[type]:
    """The classes that the module itself defines."""
    return [
        member
        for _, member in inspect.getmembers(module, inspect.isclass)
        if member.__module__ == module.__name__
        and (parent_class is None or issubclass(member, parent_class))
    ]


def load_label_mapping(mapping_file_path: str | Path) -> dict[str, str] | None:
    """Class index to label, from index_to_name.json; None, with a warning, where there is none."""
    path = Path(mapping_file_path)
    if not path.is_file():
        logger.warning("%s is missing: answers name class indices instead of labels", path.name)
        return None
    content = json.loads(path.read_text(encoding="utf-8"))
    if not isinstance(content, dict):
        raise ValueError(f"{path.name} must hold a JSON object of class index to label")
    names = content.get("object_type_names", content)
    pairs = names.items() if isinstance(names, dict) else enumerate(names)
    return {str(index): _label(name) for index, name in pairs}


def map_class_to_label(
    probs: Sequence[Sequence[float]],
    mapping: Mapping[str, str] | None = None,
    lbl_classes: Sequence[Sequence[int]] | None = None,
) -> list[dict[str, float]]:
    """For each row of probabilities, label to probability; class indices where labels lack."""
    if not isinstance(probs, list) or not all(isinstance(row, list | tuple) for row in probs):
        raise TypeError("map_class_to_label takes a list of lists of probabilities")
    labels = mapping or {}
    answers = []
    for place, row in enumerate(probs):
        classes = range(len(row)) if lbl_classes is None else lbl_classes[place]
        indices = [str(index) for index in classes]
        answers.append(
            {labels.get(key, key): value for key, value in zip(indices, row, strict=False)}
        )
    return answers


def get_yaml_config(yaml_file_path: str | Path) -> Any:
    """What a YAML file holds."""
    yaml = library("yaml", "get_yaml_config")
    return yaml.safe_load(Path(yaml_file_path).read_text(encoding="utf-8"))


def check_valid_pt2_backend(backend: str) -> bool:
    """Whether TorchServe names the backend; where not, that is said."""
    is_known = any(backend == known.value for known in PT2Backend)
    if not is_known:
        logger.warning("%s is not a supported backend", backend)
    return is_known


def deprecated(
    version: str, replacement: str = "", klass: type[Warning] = PendingDeprecationWarning
) -> Callable[[Function], Function]:
    """Decorate a function: calling it warns that it goes, and what takes its place."""

    def decorate(func: Function) -> Function:
        @functools.wraps(func)
        def warned(*args: Any, **kwargs: Any) -> Any:
            text = f"{func.__name__} is deprecated in {version} and moved to {replacement}"
            warnings.warn(text, klass, stacklevel=2)
            return func(*args, **kwargs)

        return warned  # type: ignore[return-value]

    return decorate


def _label(name: Any) -> str:
    # ImageNet's files hold a pair: the code of the class, and its name.
    return str(name[-1] if isinstance(name, list) else name)
