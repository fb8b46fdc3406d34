"""Models made faster once they are loaded: torch.compile where the configuration asks for it.

A model that cannot be compiled is served as it is, with a warning."""

from __future__ import annotations

import importlib
import importlib.util
import logging
import os
from collections.abc import Callable
from typing import Any

import torch

logger = logging.getLogger(__name__)

PT2_AVAILABLE = True
IPEX_AVAILABLE = (
    os.environ.get("TS_IPEX_ENABLE", "false") == "true"
    and importlib.util.find_spec("intel_extension_for_pytorch") is not None
)

# Backends that torch knows only once these are imported.
BACKEND_MODULES = {"openvino": "openvino.torch", "tensorrt": "torch_tensorrt"}


def compiled(model: Any, settings: Any, device: torch.device) -> Any:
    """The model as the configuration's `pt2` wants it, else as IPEX makes it, else as it is."""
    arguments = compile_arguments(settings)
    if arguments is not None:
        return _compiled(model, arguments)
    if IPEX_AVAILABLE:
        channels_last = model.to(device, memory_format=torch.channels_last)
        return importlib.import_module("intel_extension_for_pytorch").optimize(channels_last)
    return model


def compiled_and_warm(
    model: Any, settings: Any, device: torch.device, warm: Callable[[Any], None]
) -> Any:
    """The same, once `warm` has run it: most backends compile, and fail, no sooner."""
    made = compiled(model, settings, device)
    try:
        warm(made)
        return made
    except Exception as error:
        if made is model:
            raise
        logger.warning("the model runs as it is, the compiled one failed: %s", error)
    warm(model)
    return model


def compile_arguments(settings: Any) -> dict[str, Any] | None:
    """What to call torch.compile with: a backend's name, its arguments, or `compile: {…}`."""
    if not settings:
        return None
    if isinstance(settings, str):
        return {"backend": settings}
    if not isinstance(settings, dict):
        raise ValueError(f"pt2 is {settings!r}: it must be a backend's name or a mapping")
    if "compile" not in settings:
        return None if "export" in settings else dict(settings)
    chosen = dict(settings["compile"])
    return chosen if chosen.pop("enable", False) is True else None


def _compiled(model: Any, arguments: dict[str, Any]) -> Any:
    try:
        backend = arguments.get("backend")
        if backend in BACKEND_MODULES:
            importlib.import_module(BACKEND_MODULES[backend])
        return torch.compile(model, **arguments)
    except Exception as error:  # noqa: BLE001 (whatever a backend raises, the model still runs)
        logger.warning("the model runs as it is, torch.compile failed: %s", error)
        return model
