"""Pipelines over several processes by PiPPy, as the model's configuration describes them.

PiPPy became `torch.distributed.pipelining` and is no longer made; these functions need the old
package `pippy` and serve the handlers that were written for it."""

from __future__ import annotations

import inspect
from pathlib import Path
from typing import Any

import torch
from torch.distributed import rpc
from ts.handler_utils.optional import library


def initialize_rpc_workers(local_rank: int, world_size: int, ctx: Any) -> None:
    """Join this process to the others by torch's RPC, each on its GPU where there are some."""
    settings = ctx.model_yaml_config["pippy"]
    options = rpc.TensorPipeRpcBackendOptions(
        num_worker_threads=settings["num_worker_threads"], rpc_timeout=settings["rpc_timeout"]
    )
    gpus = torch.cuda.device_count()
    for rank in range(world_size if gpus else 0):
        options.set_device_map(f"worker{rank}", {local_rank % gpus: rank % gpus})
    rpc.init_rpc(  # type: ignore[no-untyped-call]
        f"worker{local_rank}",
        rank=local_rank,
        world_size=world_size,
        rpc_backend_options=options,
    )


def get_pipeline_driver(model: Any, world_size: int, ctx: Any) -> Any:
    """The model cut into `world_size` stages; what it returns is called like the model."""
    settings, handler = _section(ctx, "pippy"), _section(ctx, "handler")
    input_names, model_type = _value(settings, "input_names"), _value(settings, "model_type")
    index = _index_file(_value(handler, "model_path"), handler.get("index_filename"))
    pippy, huggingface = library("pippy", "get_pipeline_driver"), None
    if model_type == "HF":
        huggingface = library("pippy.hf", "get_pipeline_driver")
    model.eval()
    driver, _ = pippy.all_compile(
        model,
        num_ranks=world_size,
        num_chunks=settings.get("chunks", 1),
        schedule="FillDrain",
        split_policy=pippy.split_into_equal_size(world_size),
        tracer=huggingface.PiPPyHFTracer() if huggingface else None,
        concrete_args=_fixed_arguments(model, input_names),
        index_filename=index,
        checkpoint_prefix=None,
    )
    if huggingface is None:
        return driver
    huggingface.inject_pipeline_forward(model, driver)
    return model


def _section(ctx: Any, name: str) -> dict[str, Any]:
    section: dict[str, Any] = _value(ctx.model_yaml_config, name)
    return section


def _value(settings: dict[str, Any], name: str) -> Any:
    if name not in settings:
        raise ValueError(f"model-config.yaml has no {name}")
    return settings[name]


def _index_file(model_path: str, name: str | None) -> str | None:
    if name is None:
        return None
    path = Path(model_path, name)
    if not path.is_file():
        raise ValueError(f"there is no index file {path}")
    return str(path)


def _fixed_arguments(model: Any, input_names: list[str]) -> dict[str, Any]:
    """What the tracer takes as constant: all that is no input of a request."""
    parameters = inspect.signature(model.forward).parameters.values()
    fixed = {each.name: each.default for each in parameters if each.name not in input_names}
    if "bloom" in type(model).__name__.lower():
        fixed.setdefault("deprecated_arguments", {})
    return fixed
