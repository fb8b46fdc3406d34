"""What every worker of a model is made from.

Which of them are made, and when, is pool.py's business."""

from __future__ import annotations

from dataclasses import dataclass, replace

from tsd.ipc.arguments import WorkerArguments
from tsd.models.description import ModelDescription
from tsd.serving.fork_server import ForkServer
from tsd.settings import Config


@dataclass(frozen=True, slots=True)
class Machine:
    """What models share: the configuration, the fork server, the devices, the daemon's pid."""

    config: Config
    fork_server: ForkServer
    devices: tuple[str, ...]
    pid: int


@dataclass(frozen=True, slots=True)
class WorkerPlan:
    """What every worker of the model is made from; a number and a device make it a worker's."""

    arguments: WorkerArguments
    devices: tuple[str, ...]
    startup_timeout_s: float
    response_timeout_s: float


def worker_plan(description: ModelDescription, machine: Machine) -> WorkerPlan:
    """The plan of one version of a model on this machine."""
    serving = machine.config.serving
    arguments = WorkerArguments(
        request_id=0,
        model_name=description.name,
        model_version=description.version,
        number=0,
        device="cpu",
        gpu_id=None,
        model_dir=str(description.model_dir),
        handler=description.handler,
        manifest=description.manifest,
        model_yaml=description.model_yaml,
        batch_size=description.batch_size,
        threads=serving.threads,
        arena_bytes=serving.arena_bytes,
        answers_bytes=serving.answers_bytes,
        daemon_pid=machine.pid,
    )
    devices = ("cpu",) if description.device_type == "cpu" else machine.devices
    return WorkerPlan(
        arguments, devices, description.startup_timeout_s, description.response_timeout_s
    )


def with_place(arguments: WorkerArguments, number: int, device: str) -> WorkerArguments:
    """The arguments of the worker that has this number and this device."""
    gpu_id = int(device.partition(":")[2]) if device.startswith("cuda:") else None
    return replace(arguments, number=number, device=device, gpu_id=gpu_id)
