"""How long a handler's steps take, where the model's configuration asks for it."""

from __future__ import annotations

import functools
import time
from collections.abc import Callable
from typing import Any, TypeVar

import torch

Step = TypeVar("Step", bound=Callable[..., Any])


def timed(func: Step) -> Step:
    """Decorate a method: its time becomes the metric `ts_handler_NAME`, in milliseconds.

    Only with `handler: {profile: true}` in the model's configuration."""

    @functools.wraps(func)
    def measured(self: Any, *args: Any, **kwargs: Any) -> Any:
        context: Any = getattr(self, "context", None)
        if not _wants_profile(context):
            return func(self, *args, **kwargs)
        begin = _now()
        result = func(self, *args, **kwargs)
        context.metrics.add_time(f"ts_handler_{func.__name__}", (_now() - begin) * 1000)
        return result

    return measured  # type: ignore[return-value]


def _now() -> float:
    # A GPU works behind the caller's back: what was asked of it belongs to the step that asked.
    if torch.cuda.is_initialized():  # type: ignore[no-untyped-call]
        torch.cuda.synchronize()
    return time.perf_counter()


def _wants_profile(context: Any) -> bool:
    settings = (getattr(context, "model_yaml_config", None) or {}).get("handler")
    return isinstance(settings, dict) and bool(settings.get("profile"))
