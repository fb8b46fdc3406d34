"""How long a handler's steps take, where the model's configuration asks for it."""

from __future__ import annotations

import functools
import time
from collections.abc import Callable
from typing import Any, TypeVar

Step = TypeVar("Step", bound=Callable[..., Any])


def timed(step: Step) -> Step:
    """Decorate a method: its time becomes the metric `ts_handler_NAME`, in milliseconds.

    Only with `handler: {profile: true}` in the model's configuration."""

    @functools.wraps(step)
    def measured(self: Any, *args: Any, **kwargs: Any) -> Any:
        context = getattr(self, "context", None)
        if not _wants_profile(context):
            return step(self, *args, **kwargs)
        begin = time.perf_counter()
        result = step(self, *args, **kwargs)
        elapsed_ms = (time.perf_counter() - begin) * 1000
        context.metrics.add_time(f"ts_handler_{step.__name__}", elapsed_ms)
        return result

    return measured  # type: ignore[return-value]


def _wants_profile(context: Any) -> bool:
    settings = (getattr(context, "model_yaml_config", None) or {}).get("handler")
    return isinstance(settings, dict) and settings.get("profile") is True
