"""Loading a model by TorchServe's names, for code that imports them, such as a handler's tests.

tsd's own workers load models by tsd/worker/loader.py, whose rules these are."""

from __future__ import annotations

import abc
import json
from pathlib import Path
from typing import Any

from ts.service import Service


class ModelLoader(abc.ABC):
    """Makes a service of a model directory."""

    @abc.abstractmethod
    def load(  # noqa: PLR0913 (TorchServe's signature)
        self,
        model_name: str,
        model_dir: str,
        handler: str | None = None,
        gpu_id: int | None = None,
        batch_size: int | None = None,
        envelope: str | None = None,
        limit_max_image_pixels: bool | None = True,  # noqa: FBT001, FBT002
        metrics_cache: Any = None,
    ) -> Service:
        """The service of a model, initialized."""


class TsModelLoader(ModelLoader):
    """Finds entry points as TorchServe does."""

    def load(  # noqa: PLR0913 (TorchServe's signature)
        self,
        model_name: str,
        model_dir: str,
        handler: str | None = None,
        gpu_id: int | None = None,
        batch_size: int | None = None,
        envelope: str | None = None,
        limit_max_image_pixels: bool | None = True,  # noqa: FBT001, FBT002
        metrics_cache: Any = None,
    ) -> Service:
        """The service of a model directory, its handler initialized; the process moves there."""
        from tsd.worker.loader import LoadArguments, load

        manifest_file = Path(model_dir, "MAR-INF", "MANIFEST.json")
        manifest = json.loads(manifest_file.read_text()) if manifest_file.is_file() else {}
        service = Service(
            model_name,
            model_dir,
            manifest,
            _not_loaded,
            gpu_id,
            batch_size,
            bool(limit_max_image_pixels),
            metrics_cache,
        )
        loaded = load(
            LoadArguments(
                model_name=model_name,
                model_version=manifest.get("model", {}).get("modelVersion", ""),
                model_dir=model_dir,
                handler=handler or "",
                manifest=manifest,
                model_yaml=service.context.model_yaml_config,
                batch_size=batch_size or 1,
                device="cpu" if gpu_id is None else f"cuda:{gpu_id}",
                gpu_id=gpu_id,
                envelope=envelope or "",
                limit_max_image_pixels=bool(limit_max_image_pixels),
            )
        )
        service._entry_point = loaded.handle  # noqa: SLF001 (it is not loaded before)
        service._context = loaded.context  # noqa: SLF001
        if metrics_cache is not None:
            service.context.metrics = metrics_cache
        return service


def _not_loaded(data: Any, context: Any) -> Any:
    raise RuntimeError("the handler is not loaded")


class ModelLoaderFactory:
    """TorchServe's way to the only loader."""

    @staticmethod
    def get_model_loader() -> ModelLoader:
        """The loader."""
        return TsModelLoader()
