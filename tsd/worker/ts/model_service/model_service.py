"""ModelService and SingleNodeService: the classes that handlers extended before BaseHandler."""

from __future__ import annotations

import abc
import ast
import json
from pathlib import Path
from typing import Any


class ModelService(abc.ABC):  # noqa: B024 (old handlers leave `ping` undefined)
    """A handler that a signature file describes; subclasses define `inference`."""

    def __init__(
        self,
        model_name: str | None = None,
        model_dir: str | None = None,
        manifest: Any = None,
        gpu: int | None = None,
    ) -> None:
        self.ctx: Any = None
        self._context: Any = None
        self._signature: Any = None

    def initialize(self, context: Any) -> None:
        """Read the signature that the manifest names."""
        self._context = context
        name = context.manifest["Model"]["Signature"]
        path = Path(context.system_properties["model_dir"], name)
        if not path.is_file():
            raise ValueError(f"there is no signature file {path}")
        self._signature = json.loads(path.read_text(encoding="utf-8"))

    def inference(self, data: Any) -> Any:
        """The results of a list of inputs; subclasses define it."""
        raise NotImplementedError(f"{type(self).__name__} has no inference")

    def ping(self) -> Any:
        """Whether all is well; subclasses define it."""
        return None

    def signature(self) -> Any:
        """The signature."""
        return self._signature

    def handle(self, data: Any, context: Any) -> list[Any]:
        """The result of the first request."""
        row = data[0]
        names = (self._signature["inputs"][0]["data_name"], "body", "data")
        value = next((row[name] for name in names if row.get(name) is not None), None)
        is_json = self._signature["input_type"] == "application/json"
        if is_json and isinstance(value, bytes | bytearray):
            value = ast.literal_eval(value.decode())
        result = self.inference([value])
        return result if isinstance(result, list) else [result]


class SingleNodeService(ModelService):
    """One model in three steps, of which subclasses define those they need."""

    def inference(self, data: Any) -> Any:
        """The steps in order."""
        return self._postprocess(self._inference(self._preprocess(data)))

    def _preprocess(self, data: Any) -> Any:
        return data

    def _inference(self, data: Any) -> Any:
        return data

    def _postprocess(self, data: Any) -> Any:
        return data
