"""What the worker's tests share: the `ts` package under its name, and a process to spoil."""

import importlib.util
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import tsd.worker


def carry_ts_package() -> None:
    """As the fork server does it, which cannot be imported without torch."""
    folder = Path(tsd.worker.__file__).parent / "ts"
    spec = importlib.util.spec_from_file_location(
        "ts", folder / "__init__.py", submodule_search_locations=[str(folder)]
    )
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["ts"] = module
    spec.loader.exec_module(module)


if "ts" not in sys.modules:
    carry_ts_package()


@pytest.fixture
def worker_process() -> Iterator[None]:
    """Loading a model changes the process for good; this undoes it."""
    folder, path, modules = Path.cwd(), list(sys.path), set(sys.modules)
    yield
    os.chdir(folder)
    sys.path[:] = path
    for name in set(sys.modules) - modules:
        if not name.startswith("ts."):
            del sys.modules[name]


@pytest.fixture
def load_handler(tmp_path: Path, worker_process: None) -> Callable[..., Any]:
    """Writes a handler file and loads it as a worker would."""
    from tsd.worker.loader import LoadArguments, LoadedModel, load

    def load_it(source: str, handler: str = "h.py", **settings: Any) -> LoadedModel:
        (tmp_path / "h.py").write_text(source)
        arguments: dict[str, Any] = {
            "model_name": "m",
            "model_version": "1.0",
            "model_dir": str(tmp_path),
            "handler": handler,
            "manifest": {"model": {"modelName": "m"}},
            "model_yaml": {},
            "batch_size": 4,
            "device": "cpu",
            "gpu_id": None,
        }
        return load(LoadArguments(**arguments | settings))

    return load_it
