"""What an interpreter is good for: run by it, as its fork server would be, for a line of JSON.

What the line means is runtimes/check.py's part. Standard library only, until torch is tried."""

from __future__ import annotations

import importlib
import json
import platform
import sys
import sysconfig
import traceback
from typing import Any

# What handlers and the codec take where it is there.
OPTIONAL = {"numpy": "numpy", "orjson": "orjson", "pillow": "PIL", "torchvision": "torchvision"}


def main() -> None:
    """Print what was found."""
    words = {
        "python": platform.python_version(),
        "abi": sysconfig.get_config_var("SOABI") or "",
        **_torch(),
    }
    sys.stdout.write(f"\n{json.dumps(words)}\n")
    sys.stdout.flush()


def _torch() -> dict[str, Any]:
    """Everything behind `import torch`; `trouble` says what kept the worker's side from running."""
    try:
        import torch
    except ModuleNotFoundError as error:
        is_missing = error.name == "torch"
        return {"has_torch": not is_missing, "trouble": _last_line()}
    except Exception:  # noqa: BLE001 (a broken installation raises what it likes)
        return {"trouble": _last_line()}
    try:
        importlib.import_module("tsd.worker.zygote")
    except Exception:  # noqa: BLE001 (whatever it lacks)
        return {"torch": torch.__version__, "trouble": _last_line()}
    build = torch.version.cuda or torch.version.hip or ""
    return {
        "torch": torch.__version__,
        "packages": {name: _version(module) for name, module in OPTIONAL.items()},
        "cuda": build,
        "cuda_trouble": _cuda_trouble() if build else "",
    }


def _cuda_trouble() -> str:
    """Why the GPUs cannot be used; "": they can."""
    import torch

    try:
        torch.zeros(1, device="cuda")
    except Exception:  # noqa: BLE001 (the driver's words, whatever their kind)
        return _last_line()
    return ""


def _version(module: str) -> str:
    """Of a package that is there; "": it is not, or does not work."""
    try:
        return str(getattr(importlib.import_module(module), "__version__", "unknown"))
    except Exception:  # noqa: BLE001 (a broken package is as good as none)
        return ""


def _last_line() -> str:
    return traceback.format_exc().strip().splitlines()[-1][:500]
