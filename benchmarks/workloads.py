"""What is asked: the requests, the models that answer them, and what they are compared with."""

from __future__ import annotations

import enum
import io
import json
import random
from array import array
from dataclasses import dataclass
from pathlib import Path

from tsctl.commands.pack import PackRequest, pack

MODELS = Path(__file__).parent / "models"
MIB = 1024 * 1024

SENTENCES = [
    "A man is eating a piece of bread.",
    "The satellite left its orbit in May.",
    "The train to Bern leaves at noon, if the snow on the pass allows it.",
    "My cat dislikes the neighbour's violin.",
]


class Door(enum.Enum):
    """Where a workload's requests enter."""

    TCP = "tcp"
    UNIX = "unix"
    GRPC = "grpc"


@dataclass(frozen=True)
class Workload:
    """One kind of request; its name is the model's name, too.

    Workloads of one family are measured in turn, round by round, so that they can be compared."""

    name: str
    about: str
    content_type: str
    body: bytes
    batch_size: int
    yardsticks: tuple[str, ...]
    # Its worker may leave the core of the daemon: it has work of its own to do.
    is_worker_free: bool = False
    # Sent by upload.py, which chooses the congestion control: wrk cannot.
    is_upload: bool = False
    concurrencies: tuple[int, ...] = (1, 16, 64, 256)
    handler_name: str = ""
    workers: int = 1
    door: Door = Door.TCP
    family: str = ""
    # How many times longer than others it is measured: its requests are few.
    slowness: int = 1
    # Also asked of a daemon that writes TorchServe's access log.
    is_logged: bool = False
    # Its handler takes views of bodies, so that no worker copies them.
    takes_views: bool = False
    # More than the connections of any workload: what is measured is work, not refusals.
    queue_size: int = 1024

    @property
    def handler(self) -> Path:
        return MODELS / f"{self.handler_name or self.name}.py"

    @property
    def group(self) -> str:
        """Its family; most are one for themselves."""
        return self.family or self.name


def all_workloads() -> dict[str, Workload]:
    """By name; the bodies are the same in every run."""
    chosen = [*_small(), *_models(), *_bodies(), _grpc()]
    return {workload.name: workload for workload in chosen}


def families(chosen: list[Workload]) -> list[list[Workload]]:
    """Those that are measured in turn, together."""
    by_group: dict[str, list[Workload]] = {}
    for workload in chosen:
        by_group.setdefault(workload.group, []).append(workload)
    return list(by_group.values())


def _small() -> list[Workload]:
    row = json.dumps(_row()).encode()
    about, kind = "128 numbers as JSON in, 10 scores as JSON out", "application/json"
    return [
        Workload(
            "noop",
            "13 bytes of JSON in, a constant out",
            kind,
            b'{"value": 42}',
            batch_size=32,
            yardsticks=("floor",),
            is_logged=True,
        ),
        Workload("mlp", about, kind, row, 32, ("floor", "raw"), is_worker_free=True, family="mlp"),
        Workload(
            "mlp1",
            f"{about}, one at a time",
            kind,
            row,
            batch_size=1,
            yardsticks=("raw",),
            is_worker_free=True,
            concurrencies=(64,),
            handler_name="mlp",
            family="mlp",
        ),
    ]


def _models() -> list[Workload]:
    sentences = json.dumps({"sentences": SENTENCES}).encode()
    return [
        *(
            Workload(
                name,
                f"ResNet-18 on a JPEG of 320 x 240, {workers} worker(s)",
                "image/jpeg",
                _jpeg(),
                batch_size=1,
                yardsticks=("raw",),
                is_worker_free=True,
                concurrencies=concurrencies,
                handler_name="resnet",
                workers=workers,
                slowness=4,
            )
            for name, workers, concurrencies in (("resnet", 1, (1, 4)), ("resnet2", 2, (8,)))
        ),
        Workload(
            "sentences",
            "4 sentences in, MiniLM's embeddings as JSON out",
            "application/json",
            sentences,
            batch_size=8,
            yardsticks=("raw",),
            is_worker_free=True,
            concurrencies=(1, 16, 64),
            slowness=2,
        ),
    ]


def _bodies() -> list[Workload]:
    binary, tensor = "application/octet-stream", array("f", _row() * (MIB // 128)).tobytes()
    uploads = [
        Workload(
            f"length{mebibytes}-{door.value}",
            f"{mebibytes} MiB of bytes in, their number out",
            binary,
            bytes(mebibytes * MIB),
            batch_size=1,
            yardsticks=("recv" if door is Door.TCP else "recv-unix",),
            is_upload=True,
            concurrencies=concurrencies,
            handler_name="length",
            door=door,
            takes_views=True,
        )
        for mebibytes, concurrencies in ((4, (1, 16)), (64, (1, 2)))
        for door in (Door.TCP, Door.UNIX)
    ]
    about = "4 MiB of float32 in, their sum out"
    return [
        *uploads,
        Workload(
            "tensor",
            about,
            binary,
            tensor,
            batch_size=1,
            yardsticks=("recv", "raw"),
            is_upload=True,
            concurrencies=(1, 16, 64),
            takes_views=True,
        ),
    ]


def _grpc() -> Workload:
    return Workload(
        "grpc",
        "TorchServe's gRPC Predictions: 13 bytes in, a constant out",
        "application/json",
        b'{"value": 42}',
        batch_size=32,
        yardsticks=("echo",),
        concurrencies=(1, 16, 64),
        handler_name="noop",
        door=Door.GRPC,
    )


def _row() -> list[float]:
    numbers = random.Random(7)  # noqa: S311 (test data, the same every time)
    return [round(numbers.uniform(-1, 1), 7) for _ in range(128)]


def _jpeg() -> bytes:
    from PIL import Image

    bands = (Image.radial_gradient("L"), Image.linear_gradient("L"), Image.radial_gradient("L"))
    file = io.BytesIO()
    Image.merge("RGB", bands).resize((320, 240)).save(file, "JPEG", quality=90)
    return file.getvalue()


def pack_archive(workload: Workload, folder: Path) -> Path:
    """The workload's model as an archive; no delay to fill a batch."""
    settings: dict[str, object] = {
        "minWorkers": workload.workers,
        "maxWorkers": workload.workers,
        "batchSize": workload.batch_size,
        "maxBatchDelay": 0,
        "jobQueueSize": workload.queue_size,
    }
    if workload.takes_views:
        settings["bodyViews"] = "true"
    config = folder / f"{workload.name}.yaml"
    config.write_text("".join(f"{key}: {value}\n" for key, value in settings.items()))
    request = PackRequest(
        model_name=workload.name,
        handler=str(workload.handler),
        config_file=config,
        export_path=folder,
        force=True,
    )
    return pack(request)
