"""AOTInductor packages: machine code that torch made of a model, loaded without the compiler.

torch's own function for it imports the compiler first, in each worker: 1.6 s and 79 MB against
3 ms and 0.3 MB here."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from torch.utils import _pytree as trees

# Where nobody gave the model in the package another one.
NAME = "model"


class CompiledPackage:
    """Called as the model that was compiled; `loader` is torch's."""

    def __init__(self, loader: Any) -> None:
        self.loader = loader
        arguments, result = loader.get_call_spec()
        self._result = trees.treespec_loads(result)
        # (positional ones, those by name); torch's classes for it differ between its versions.
        by_name = json.loads(arguments)[1]["children_spec"][1]
        self._names: list[str] = json.loads(by_name["context"])

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """The output for arguments as those that the model was compiled with."""
        if kwargs.keys() != set(self._names):
            raise ValueError(f"the compiled model takes {self._names} by name, not {[*kwargs]}")
        flat, _ = trees.tree_flatten((args, {name: kwargs[name] for name in self._names}))
        outputs = self.loader.boxed_run([one for one in flat if isinstance(one, torch.Tensor)])
        return trees.tree_unflatten(outputs, self._result)


def load_package(path: Path, device: torch.device) -> Any:
    """The model of the file, on the device that it was compiled for."""
    index = -1 if device.index is None else device.index
    try:
        loader = torch._C._aoti.AOTIModelPackageLoader(str(path), NAME, False, 1, index)  # noqa: SLF001, FBT003 (below the function that imports the compiler)
    except (AttributeError, TypeError):
        # Another version of torch: its own function is documented.
        return torch._inductor.aoti_load_package(str(path), device_index=index)  # noqa: SLF001
    return CompiledPackage(loader)
