"""Images decoded and scaled by NVIDIA's DALI, as the model's configuration describes it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ts.handler_utils.optional import library

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


def get_dali_pipeline(ctx: Any) -> Any:
    """The pipeline in the file that `dali` in the yaml names, else the one for ImageNet models."""
    settings = ctx.model_yaml_config.get("dali")
    if settings is None:
        raise ValueError(f"{ctx.model_name}: model-config.yaml has no dali")
    pipeline = library("nvidia.dali.pipeline", "get_dali_pipeline").Pipeline
    arguments = {
        name: settings[name] for name in ("batch_size", "num_threads", "device_id", "seed")
    } | {"prefetch_queue_depth": 1}
    if "pipeline_file" not in settings:
        return _imagenet_pipeline(pipeline(**arguments))
    file = Path(ctx.system_properties["model_dir"], settings["pipeline_file"])
    if not file.is_file():
        raise RuntimeError(f"there is no DALI pipeline file {file}")
    return pipeline.deserialize(filename=str(file), **arguments)


def _imagenet_pipeline(pipeline: Any) -> Any:
    """From JPEG bytes, fed as `source`, to what models trained on ImageNet take."""
    fn, types = library("nvidia.dali.fn", "DALI"), library("nvidia.dali.types", "DALI")
    with pipeline:
        encoded = fn.external_source(name="source", dtype=types.UINT8)
        decoded = fn.decoders.image(encoded, device="mixed")
        resized = fn.resize(decoded, size=[256], mode="not_smaller")
        cropped = fn.crop_mirror_normalize(
            resized,
            crop=(224, 224),
            mean=[255 * value for value in IMAGENET_MEAN],
            std=[255 * value for value in IMAGENET_STD],
        )
        pipeline.set_outputs(cropped)
    pipeline.build()
    return pipeline
