"""The house rules that imports can show: floors, rings, and torch on the worker's side only."""

import ast
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

# Longest prefix wins. A module imports from lower floors or from its own room.
FLOORS = {
    "tsd.__main__": 8,
    "tsd.daemon": 7,
    "tsd.doors": 7,
    "tsd.heartbeat": 6,
    "tsd.idle": 6,
    "tsd.api": 6,
    "tsd.grpc": 6,
    "tsd.http": 5,
    "tsd.operations": 5,
    "tsd.desired": 4,
    "tsd.serving": 4,
    "tsd.models": 3,
    "tsd.worker": 3,
    "tsd.ipc": 2,
    "tsd.snapshots": 5,
    "tsd.migration": 3,
    "tsd.config": 2,
    "tsd.runtimes": 2,
    "tsd.runtime_operations": 5,
    "tsd.properties": 1,
    "tsd.addresses": 0,
    "tsd.durations": 0,
    "tsd.version": 0,
    "tsd.devices": 0,
    "tsd.processors": 0,
    "tsd.journal": 1,
    "tsd.log": 1,
    "tsd.measuring": 6,
    "tsd.torchserve_metrics": 2,
    "tsd.metrics_page": 2,
    "tsd.log_files": 2,
    "tsd.metrics_file": 1,
    "tsd.system_load": 1,
    "tsd.cgroups": 2,
    "tsd.tls": 1,
    "tsd.metrics": 1,
    "tsd.systemd": 1,
    "tsd.process": 1,
    "tsd.programs": 1,
    "tsd.durable": 1,
    "tsd.errors": 0,
    "tsd.settings": 0,
    "tsd": 0,
}
# Rooms on one floor that are joined: the daemon and its doors; gRPC and what HTTP answers, too.
NEIGHBOURS = {("tsd.daemon", "tsd.doors"), ("tsd.grpc", "tsd.api")}
ON_THE_WORKERS_SIDE = (
    *("tsd.worker", "tsd.ipc", "tsd.process", "tsd.system_load", "tsd.errors", "tsd", "ts"),
)
# What a runtime may have and need not; `multipart` is carried along by path.
WORKER_PACKAGES = {
    *("torch", "numpy", "PIL", "orjson", "onnxruntime", "captum", "multipart", "transformers"),
    *("torchvision", "intel_extension_for_pytorch", "torch_xla", "safetensors", "requests"),
}


def module_name(path: Path) -> str:
    name = ".".join(path.relative_to(ROOT).with_suffix("").parts)
    return name.removesuffix(".__init__")


def imports_of(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            for alias in node.names:
                full = f"{node.module}.{alias.name}"
                is_module = (ROOT / Path(*full.split("."))).with_suffix(".py").exists()
                yield full if is_module else node.module


def room_of(module: str) -> str:
    fits = [room for room in FLOORS if module == room or module.startswith(room + ".")]
    return max(fits, key=len)


def modules(folder: str) -> list[Path]:
    return sorted((ROOT / folder).rglob("*.py"))


@pytest.mark.parametrize("path", modules("tsd"), ids=module_name)
def test_a_module_imports_from_lower_floors_or_its_own_room(path: Path) -> None:
    room = room_of(module_name(path))
    for imported in imports_of(path):
        if not imported.startswith("tsd"):
            continue
        other = room_of(imported)
        is_lower = FLOORS[other] < FLOORS[room]
        assert is_lower or other == room or (room, other) in NEIGHBOURS, f"{room} -> {imported}"


def test_no_module_is_in_a_ring() -> None:
    graph = {
        module_name(path): {name for name in imports_of(path) if name.startswith("tsd")}
        for path in modules("tsd")
    }

    def visit(module: str, trail: tuple[str, ...]) -> None:
        assert module not in trail, " -> ".join((*trail, module))
        if module not in finished:
            for imported in graph.get(module, ()):
                visit(imported, (*trail, module))
            finished.add(module)

    finished: set[str] = set()
    for module in graph:
        visit(module, ())


@pytest.mark.parametrize("path", modules("tsd") + modules("tsctl"), ids=module_name)
def test_torch_is_imported_on_the_workers_side_only(path: Path) -> None:
    roots = {name.partition(".")[0] for name in imports_of(path)}
    if not module_name(path).startswith("tsd.worker"):
        assert roots.isdisjoint({"torch", "ts"})


@pytest.mark.parametrize("path", modules("tsd/worker") + modules("tsd/ipc"), ids=module_name)
def test_a_worker_needs_the_standard_library_and_its_runtime_only(path: Path) -> None:
    for name in imports_of(path):
        root = name.partition(".")[0]
        is_ours = root in ("tsd", "ts") and (root == "ts" or room_of(name) in ON_THE_WORKERS_SIDE)
        assert is_ours or root in sys.stdlib_module_names or root in WORKER_PACKAGES, name


@pytest.mark.parametrize("path", modules("tsctl"), ids=module_name)
def test_the_client_needs_the_standard_library_only(path: Path) -> None:
    for name in imports_of(path):
        root = name.partition(".")[0]
        assert root in sys.stdlib_module_names or root == "tsctl", name


def test_the_daemon_never_unpickles() -> None:
    for path in modules("tsd"):
        if module_name(path).startswith("tsd.worker"):
            continue
        roots = {name.partition(".")[0] for name in imports_of(path)}
        assert roots.isdisjoint({"pickle", "marshal", "shelve", "multiprocessing"}), path


@pytest.mark.parametrize("path", modules("tsd") + modules("tsctl"), ids=module_name)
def test_an_init_file_holds_a_docstring_and_no_code(path: Path) -> None:
    if path.name == "__init__.py" and "worker/ts" not in str(path):
        assert len(ast.parse(path.read_text()).body) == 1


@pytest.mark.parametrize("path", modules("tsd"), ids=module_name)
def test_every_file_has_its_line_in_the_map(path: Path) -> None:
    if path.name != "__init__.py" and "worker/ts" not in str(path):
        assert path.name in (ROOT / "ARCHITECTURE.md").read_text()
