"""`python -m ts.llm_launcher`: serve a language model of the Hugging Face hub by vLLM or
TensorRT-LLM. It writes a model directory, starts the server with it, and stops it with Ctrl-C."""

from __future__ import annotations

import argparse
import contextlib
import json
import shutil
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from ts.handler_utils.optional import library
from ts.utils.hf_utils import download_model

HANDLERS = {"vllm": "vllm_handler", "trt_llm": "trt_llm_handler"}


def get_model_config(
    args: argparse.Namespace, model_snapshot_path: str | None = None
) -> dict[str, Any]:
    """The model-config.yaml that the arguments mean."""
    options = vars(args)
    gpus = max(torch.cuda.device_count(), 1)
    config = {
        "minWorkers": 1,
        "maxWorkers": 1,
        "batchSize": 1,
        "maxBatchDelay": 100,
        "responseTimeout": 1200,
        "startupTimeout": args.startup_timeout,
        "deviceType": "gpu",
        "asyncCommunication": True,
    }
    if args.engine == "vllm":
        folder = options["vllm_engine.download_dir"]
        engine = {
            "max_num_seqs": options["vllm_engine.max_num_seqs"],
            "max_model_len": options["vllm_engine.max_model_len"],
            "download_dir": str(Path(folder).resolve()) if folder else None,
            "tensor_parallel_size": gpus,
        }
        handler = {"model_path": args.model_id, "vllm_engine_config": engine}
        return config | {"parallelLevel": gpus, "handler": handler}
    share = options["trt_llm_engine.kv_cache_free_gpu_memory_fraction"]
    return config | {
        "handler": {
            # The library builds its engine of the weights when it loads them.
            "tokenizer_dir": model_snapshot_path,
            "engine_dir": model_snapshot_path,
            "kv_cache_config": {"free_gpu_memory_fraction": share},
        }
    }


@contextlib.contextmanager
def create_mar_file(
    args: argparse.Namespace, model_snapshot_path: str | None = None
) -> Iterator[str]:
    """The model directory, for as long as it is served; one that is there already stays."""
    folder = Path(args.model_store, args.model_name)
    if folder.exists():
        yield str(folder)
        return
    config = get_model_config(args, model_snapshot_path)
    model = {
        "modelName": args.model_name,
        "modelVersion": "1.0",
        "handler": HANDLERS[args.engine],
        "configFile": "model-config.yaml",
    }
    manifest = {"runtime": "python", "model": model, "archiverVersion": "0.12.0"}
    try:
        (folder / "MAR-INF").mkdir(parents=True)
        (folder / "MAR-INF" / "MANIFEST.json").write_text(json.dumps(manifest, indent=2))
        (folder / "model-config.yaml").write_text(library("yaml", "llm_launcher").dump(config))
        yield str(folder)
    finally:
        shutil.rmtree(folder)


def main(args: argparse.Namespace) -> None:
    """Serve until a signal comes."""
    from ts.launcher import start, stop

    Path(args.model_store).mkdir(parents=True, exist_ok=True)
    snapshot = None
    if args.engine == "trt_llm":
        snapshot = str(Path(download_model(args.model_id)).resolve())
    with create_mar_file(args, snapshot):
        try:
            start(
                model_store=args.model_store,
                no_config_snapshots=True,
                models=args.model_name,
                disable_token=args.disable_token_auth,
            )
            signal.pause()
        except KeyboardInterrupt:
            pass
        finally:
            stop(wait=False)


def parser() -> argparse.ArgumentParser:
    """TorchServe's options."""
    options = argparse.ArgumentParser(prog="python -m ts.llm_launcher", description=__doc__)
    options.add_argument("--model_name", default="model")
    options.add_argument("--model_store", default="model_store")
    options.add_argument("--model_id", default="meta-llama/Meta-Llama-3.1-8B-Instruct")
    options.add_argument("--disable_token_auth", action="store_true")
    options.add_argument("--startup_timeout", type=int, default=1200, help="seconds")
    options.add_argument("--engine", choices=tuple(HANDLERS), default="vllm")
    options.add_argument("--dtype", default="bfloat16", help="taken and not used")
    options.add_argument("--vllm_engine.max_num_seqs", type=int, default=256)
    options.add_argument("--vllm_engine.max_model_len", type=int, default=None)
    options.add_argument("--vllm_engine.download_dir", default=None)
    options.add_argument("--trt_llm_engine.max_batch_size", type=int, default=4, help="not used")
    options.add_argument(
        "--trt_llm_engine.kv_cache_free_gpu_memory_fraction", type=float, default=0.1
    )
    return options


if __name__ == "__main__":
    main(parser().parse_args())
