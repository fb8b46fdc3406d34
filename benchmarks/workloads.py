"""What is asked: the requests, the models that answer them, and what they are compared with."""

from __future__ import annotations

import json
import random
from dataclasses import dataclass
from pathlib import Path

from tsctl.commands.pack import PackRequest, pack

MODELS = Path(__file__).parent / "models"
MIB = 1024 * 1024


@dataclass(frozen=True)
class Workload:
    """One kind of request; its name is the model's name, too."""

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

    @property
    def handler(self) -> Path:
        return MODELS / f"{self.name}.py"


def all_workloads() -> dict[str, Workload]:
    """By name; the bodies are the same in every run."""
    numbers = random.Random(7)  # noqa: S311 (test data, the same every time)
    row = [round(numbers.uniform(-1, 1), 7) for _ in range(128)]
    return {
        workload.name: workload
        for workload in (
            Workload(
                "noop",
                "13 bytes of JSON in, a constant out",
                "application/json",
                b'{"value": 42}',
                batch_size=32,
                yardsticks=("floor", "raw"),
            ),
            Workload(
                "mlp",
                "128 numbers as JSON in, 10 scores as JSON out",
                "application/json",
                json.dumps(row).encode(),
                batch_size=32,
                yardsticks=("floor", "raw"),
                is_worker_free=True,
            ),
            Workload(
                "length",
                "4 MiB of bytes in, their number out",
                "application/octet-stream",
                bytes(4 * MIB),
                batch_size=1,
                yardsticks=("floor", "recv"),
                is_upload=True,
            ),
        )
    }


def pack_archive(workload: Workload, folder: Path) -> Path:
    """The workload's model as an archive: one worker, and no delay to fill a batch."""
    config = folder / f"{workload.name}.yaml"
    settings = {"minWorkers": 1, "maxWorkers": 1, "batchSize": workload.batch_size}
    config.write_text("".join(f"{key}: {value}\n" for key, value in settings.items()))
    request = PackRequest(
        model_name=workload.name,
        handler=str(workload.handler),
        config_file=config,
        export_path=folder,
    )
    return pack(request)
