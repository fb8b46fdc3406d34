"""Model files, on disk, made ready to run: state dicts, TorchScript, torch.export, AOTInductor.

Weights are mapped and not copied where the format allows it, so that the workers of one model
share them. Which file a model uses is said by its handler."""

from __future__ import annotations

import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch

from tsd.worker.aot_package import load_package
from tsd.worker.mapping import share_weights

Model = Callable[..., Any]
State = Mapping[str, Any]


def open_model(path: Path, device: torch.device) -> Model:
    """The model that a file holds whole: `.pt` is TorchScript, `.pt2` one of two packages."""
    if path.suffix != ".pt2":
        model = torch.jit.load(path, map_location=device)  # type: ignore[no-untyped-call]
        model.eval()
        # Not buffers: a pass may write to them, and what is equal now must not become the same.
        share_weights(model.parameters(), path)
        return model  # type: ignore[no-any-return]
    if is_aot_package(path):
        compiled: Model = load_package(path, device)
        return compiled
    # An exported program is in the mode it was exported in, and on the device of its weights.
    exported = torch.export.load(path).module().to(device)
    share_weights(exported.parameters(), path)
    return exported


def open_shared_library(path: Path, device: torch.device) -> Model:
    """The model that AOTInductor compiled to a `.so`, as torch made them before packages."""
    if device.type == "cuda":
        # The loader knows kinds of devices only; which one, it takes from here.
        torch.cuda.set_device(device)
    model: Model = torch._export.aot_load(str(path), device.type)  # noqa: SLF001 (the only name)
    return model


def is_aot_package(path: Path) -> bool:
    """Whether a `.pt2` holds machine code (AOTInductor) instead of an exported program."""
    with zipfile.ZipFile(path) as package:
        return any("/aotinductor/" in name for name in package.namelist())


def load_state(path: Path, device: torch.device) -> State:
    """The tensors of a state dict file, by name; no code in the file is run."""
    if path.suffix == ".safetensors":
        from safetensors.torch import load_file

        return load_file(path, device=str(device))
    # Files written before torch 1.6 are not zip archives and cannot be mapped.
    is_mappable = zipfile.is_zipfile(path)
    state: State = torch.load(path, map_location=device, mmap=is_mappable, weights_only=True)
    return state


def fill(model: torch.nn.Module, state: State) -> None:
    """Give the model its weights: by reference where that changes no data type, else by copy.

    A class with a `load_state_dict` of its own is called as TorchServe calls it."""
    is_own = type(model).load_state_dict is not torch.nn.Module.load_state_dict
    if is_own or not _fits(model.state_dict(), state):
        model.load_state_dict(state)
    else:
        model.load_state_dict(state, assign=True)


def _fits(own: State, state: State) -> bool:
    """Whether all of it are tensors, as in the model. Quantized modules save other things, too."""
    return all(
        isinstance(value, torch.Tensor)
        and isinstance(own.get(name), torch.Tensor)
        and own[name].dtype == value.dtype
        for name, value in state.items()
    )
