"""Contexts as a worker gives them to handlers, for a model directory and a batch."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ts.context import Context, RequestProcessor


def context_of(folder: Path, model: dict[str, str] | None = None, **yaml: Any) -> Context:
    """The context of a model with these files, and one request without headers."""
    manifest = {"model": {"modelName": "m", "modelVersion": "1.0", **(model or {})}}
    context = Context("m", str(folder), manifest, 4, None, model_yaml_config=yaml)
    return asked(context)


def asked(context: Context, **headers: str) -> Context:
    """The context, with a batch of one request that has these headers."""
    context.begin_batch(["id0"], [RequestProcessor(dict(headers))])
    return context
