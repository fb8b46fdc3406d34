"""Who is compared with tsd: how each is started, and how it is asked.

All get one worker and the same work. Where a peer batches, it does so with the shortest wait it
knows; its logs go to a file."""

from __future__ import annotations

import json
import os
import shutil
import signal
import struct
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.peers.asking import Request
from benchmarks.peers.environments import packages
from benchmarks.peers.processes import Start
from benchmarks.workloads import MODELS, Workload, pack_archive
from tsctl.commands.pack import PackRequest, pack
from tsctl.failure import Failure, Status

PROJECT = Path(__file__).parents[2]
SERVERS = Path(__file__).parent / "servers"


@dataclass(frozen=True)
class Place:
    """What a server is started with: its interpreter's environment, a port and two more that are
    free, a folder of its own, the model and the batches that it may form."""

    environment: Path
    ports: tuple[int, int, int]
    folder: Path
    workload: Workload
    batch_size: int

    @property
    def python(self) -> str:
        return str(self.environment / "bin" / "python")


@dataclass(frozen=True)
class Peer:
    """One server program."""

    name: str
    start: Callable[[Place], Start]
    request: Callable[[Workload], Request]
    # Until it is as fast as it gets.
    warm_up_s: int = 3


def start_tsd(place: Place) -> Start:
    pack_archive(place.workload, place.folder)
    name = place.workload.name
    command = (
        *(sys.executable, "-m", "tsd", "--http", f"127.0.0.1:{place.ports[0]}"),
        *("--metrics", f"127.0.0.1:{place.ports[1]}", "--grpc", "none"),
        *("--runtime-dir", str(place.folder), "--state-dir", str(place.folder / "state")),
        *("--model-store", str(place.folder), "--models", f"{name}={name}.mar"),
    )
    own = {"PYTHONPATH": str(PROJECT), "XDG_CONFIG_HOME": str(place.folder), "TSD_CONFIG": ""}
    return Start(command, own)


def start_torchserve(place: Place) -> Start:
    if shutil.which("java") is None:
        raise Failure(
            Status.FAILED,
            "TorchServe needs Java, which is not installed",
            "its front end is a Java program",
            "apt-get install openjdk-17-jre-headless, or leave it out with --only",
        )
    name, folder = place.workload.name, place.folder
    settings = folder / "settings.yaml"
    # No delay at all would be read as the default of 100 ms.
    lines = (f"batchSize: {place.batch_size}", "maxBatchDelay: 1", "minWorkers: 1", "maxWorkers: 1")
    settings.write_text("\n".join(lines))
    pack(PackRequest(name, str(place.workload.handler), config_file=settings, export_path=folder))
    properties = folder / "config.properties"
    doors = zip(("inference", "management", "metrics"), place.ports, strict=True)
    properties.write_text("".join(f"{door}_address=http://127.0.0.1:{at}\n" for door, at in doors))
    command = (
        *(f"{place.environment}/bin/torchserve", "--start", "--foreground", "--ncs"),
        *("--disable-token-auth", "--model-store", str(folder), "--models", f"{name}={name}.mar"),
        *("--ts-config", str(properties)),
    )
    places = dict.fromkeys(("LOG_LOCATION", "METRICS_LOCATION", "TEMP"), str(folder))
    return Start(command, _with_path(place) | places)


def start_mosec(place: Place) -> Start:
    command = (
        *(place.python, str(SERVERS / "mosec_server.py"), place.workload.handler.stem),
        *(str(place.batch_size), place.workload.content_type),
        *("--address", "127.0.0.1", "--port", str(place.ports[0]), "--timeout", "30000"),
    )
    return Start(command, _with_models())


def start_litserve(place: Place) -> Start:
    command = _asgi_command(place, "litserve_app.py")
    return Start(command, _with_models(), stop_signal=signal.SIGINT)


def start_fastapi(place: Place) -> Start:
    return Start(_asgi_command(place, "fastapi_app.py"), _with_models())


def start_triton(place: Place) -> Start:
    installed = packages(place.environment)
    _lay_out_triton(place, installed / "pytriton" / "tritonserver")
    command = (
        *(str(installed / "pytriton" / "tritonserver" / "bin" / "tritonserver"),),
        *("--model-repository", str(place.folder / "models")),
        *("--backend-directory", str(place.folder / "backends")),
        *("--http-address", "127.0.0.1", "--http-port", str(place.ports[0])),
        *("--metrics-address", "127.0.0.1", "--metrics-port", str(place.ports[1])),
        *("--allow-grpc", "false"),
    )
    # Its program for Python models finds the environment by PATH; it ignores PYTHONPATH.
    libraries = {"LD_LIBRARY_PATH": str(installed / "nvidia_pytriton.libs")}
    return Start(command, _with_path(place) | libraries)


@dataclass(frozen=True)
class TritonModel:
    """What Triton must be told of a model: types and shapes. What it batches has a first
    dimension more than stands here."""

    input_type: str
    input_size: int
    output_type: str
    output_size: int
    is_batched: bool = True


TRITON_MODELS = {
    "noop": TritonModel("INT64", 1, "STRING", 1),
    "mlp": TritonModel("FP32", 128, "FP32", 10),
    "tensor": TritonModel("FP32", 1_048_576, "FP32", 1, is_batched=False),
}


def _lay_out_triton(place: Place, program: Path) -> None:
    """The repository of one model, and the backend with its program for this Python."""
    name = place.workload.name
    version = place.folder / "models" / name / "1"
    version.mkdir(parents=True)
    shutil.copy(SERVERS / "triton_model.py", version / "model.py")
    shutil.copy(place.workload.handler, version)
    (version.parent / "config.pbtxt").write_text(triton_configuration(name, place.batch_size))
    backend = place.folder / "backends" / "python"
    backend.mkdir(parents=True)
    stub = f"python_backend_stubs/{sys.version_info.major}.{sys.version_info.minor}"
    for file in (*(program / "backends" / "python").iterdir(), *(program / stub).iterdir()):
        (backend / file.name).symlink_to(file)


def triton_configuration(name: str, batch_size: int) -> str:
    """config.pbtxt: batches form from what waits while the one instance works."""
    model = TRITON_MODELS[name]
    batching = f"max_batch_size: {batch_size}\ndynamic_batching {{}}\n"
    ends = {"input": (model.input_type, model.input_size)}
    ends["output"] = (model.output_type, model.output_size)
    return "".join(
        [
            'backend: "python"\n',
            batching if model.is_batched else "max_batch_size: 0\n",
            "instance_group [{kind: KIND_CPU count: 1}]\n",
            *(
                f'{end} [{{name: "{end}" data_type: TYPE_{kind} dims: [{size}]}}]\n'
                for end, (kind, size) in ends.items()
            ),
        ]
    )


def ask_triton(workload: Workload) -> Request:
    """JSON as JSON; bytes by the binary tensor extension, the whole body one tensor."""
    path = f"/v2/models/{workload.name}/infer"
    if workload.content_type != "application/json":
        whole = ("Inference-Header-Content-Length: 0",)
        return Request(path, workload.body, workload.content_type, triton_value, whole)
    value = json.loads(workload.body)
    data = value if isinstance(value, list) else list(value.values())
    tensor = {
        "name": "input",
        "shape": [1, len(data)],
        "datatype": TRITON_MODELS[workload.name].input_type,
        "data": data,
    }
    body = json.dumps({"inputs": [tensor]}).encode()
    return Request(path, body, workload.content_type, triton_value)


def triton_value(content: bytes) -> Any:
    """What the first output says: JSON in a string, numbers, or a float in the bytes at the end."""
    head, _ = json.JSONDecoder().raw_decode(content.decode("latin-1"))
    output = head["outputs"][0]
    if "data" not in output:
        return struct.unpack("<f", content[-4:])[0]
    data = output["data"]
    return json.loads(data[0]) if output["datatype"] == "BYTES" else data


def ask_at(path: str) -> Callable[[Workload], Request]:
    """The workload's own body at a path, which may name the model."""
    return lambda workload: Request(
        path.format(name=workload.name), workload.body, workload.content_type, json.loads
    )


def _asgi_command(place: Place, program: str) -> tuple[str, ...]:
    words = (str(place.ports[0]), place.workload.handler.stem, str(place.batch_size))
    return (place.python, str(SERVERS / program), *words, place.workload.content_type)


def _with_models() -> dict[str, str]:
    return {"PYTHONPATH": str(MODELS)}


def _with_path(place: Place) -> dict[str, str]:
    return {"PATH": f"{place.environment}/bin:{os.environ['PATH']}"}


TSD = Peer("tsd", start_tsd, ask_at("/predictions/{name}"))
PEERS = {
    peer.name: peer
    for peer in (
        # Java's compiler takes its time.
        Peer("torchserve", start_torchserve, ask_at("/predictions/{name}"), warm_up_s=15),
        Peer("triton", start_triton, ask_triton),
        Peer("mosec", start_mosec, ask_at("/inference")),
        Peer("litserve", start_litserve, ask_at("/predict")),
        Peer("fastapi", start_fastapi, ask_at("/predict")),
    )
}
