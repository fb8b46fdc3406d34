"""Classes by name, and answers before the last."""

from __future__ import annotations

import importlib
from typing import Any

from ts.context import Context


def import_class(class_name: str, module_prefix: str | None = None) -> Any:
    """The class that `module.Class` names, the module perhaps within `module_prefix`."""
    module_name, _, name = class_name.rpartition(".")
    if module_prefix:
        module_name = f"{module_prefix}.{module_name}" if module_name else module_prefix
    if not module_name:
        raise ImportError(f"{class_name!r} names no module")
    found = getattr(importlib.import_module(module_name), name, None)
    if found is None:
        raise ImportError(f"the module {module_name} has no class {name!r}")
    return found


def send_intermediate_predict_response(
    ret: list[Any], req_id_map: dict[int, str], message: str, code: int, context: Context
) -> None:
    """Send a piece of each request's answer now, before what `handle` returns: the last piece."""
    if context.part_sender is not None:
        context.part_sender.send(ret, req_id_map, context.request_processor)
