"""DeepSpeed inference, as the model's configuration describes it; needs deepspeed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from ts.context import Context
from ts.handler_utils.optional import library

CHECKPOINT_SUFFIXES = (".bin", ".pt")


def create_checkpoints_json(model_path: str | Path, checkpoints_json: str | Path) -> None:
    """Write the list of a model's checkpoint files that DeepSpeed reads."""
    files = [
        str(path)
        for path in sorted(Path(model_path).rglob("*"))
        if path.suffix in CHECKPOINT_SUFFIXES and path.is_file()
    ]
    content = {"type": "ds_model", "checkpoints": files, "version": 1.0}
    Path(checkpoints_json).write_text(json.dumps(content), encoding="utf-8")


def get_ds_engine(model: Any, ctx: Context) -> Any:
    """The model as `deepspeed.init_inference` makes it, by the key `deepspeed` of the yaml."""
    settings = ctx.model_yaml_config.get("deepspeed")
    if settings is None:
        raise ValueError(f"{ctx.model_name}: model-config.yaml has no deepspeed")
    model_dir = Path(ctx.system_properties["model_dir"])
    model_path = ctx.model_yaml_config["handler"]["model_path"]
    config, checkpoint = settings.get("config"), settings.get("checkpoint")
    if config and not (model_dir / config).is_file():
        raise ValueError(f"{ctx.model_name}: there is no deepspeed config {model_dir / config}")
    if checkpoint:
        create_checkpoints_json(model_path, model_dir / checkpoint)
    return library("deepspeed", "get_ds_engine").init_inference(
        model,
        config=str(model_dir / config) if config else None,
        base_dir=model_path,
        checkpoint=str(model_dir / checkpoint) if checkpoint else None,
    )
