"""What every worker of a model is made from.

Which of them are made, and when, is pool.py's business."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from tsd.devices import DeviceUse, Place
from tsd.errors import StartFailed
from tsd.ipc.arguments import WorkerArguments
from tsd.log import get_logger
from tsd.models.description import ModelDescription
from tsd.processors import Nodes, find_nodes, share_of, threads_for
from tsd.serving.fork_servers import ForkServers
from tsd.settings import Config, ServingSettings

log = get_logger()


@dataclass(frozen=True, slots=True)
class Machine:
    """What models share: the configuration, the fork servers, the devices."""

    config: Config
    fork_servers: ForkServers
    devices: tuple[str, ...]
    # Gets every line of what handlers measure.
    on_metric: Callable[[str], None]
    # The metrics that handlers find declared.
    metrics_config: dict[str, Any]
    device_use: DeviceUse = field(default_factory=DeviceUse)
    nodes: Nodes = field(default_factory=find_nodes)

    @property
    def gpus(self) -> tuple[str, ...]:
        """Those that models may use."""
        gpus = [device for device in self.devices if device != "cpu"]
        return tuple(gpus[: self.config.serving.max_gpus])


@dataclass(frozen=True, slots=True)
class Placement:
    """Where the workers of a model may go, each with a place of its own."""

    places: tuple[Place, ...]
    # The GPUs that the model named: its workers take them in this order.
    device_ids: tuple[int, ...]
    # Each worker has several GPUs, or is said to have one, and sees no others.
    is_narrow: bool
    use: DeviceUse

    @property
    def is_on_gpu(self) -> bool:
        """Whether the workers have GPUs."""
        return self.places != (("cpu",),)

    @property
    def most_workers(self) -> int | None:
        """How many workers there is room for, where they do not share devices."""
        return len(self.places) if self.is_narrow else None

    def take(self, number: int) -> Place:
        """The devices of the worker of that number, to be given back when it is gone for good."""
        if self.device_ids:
            return self.use.take([self.places[(number - 1) % len(self.places)]])
        return self.use.take(self.places)


@dataclass(frozen=True, slots=True)
class WorkerPlan:
    """What every worker of the model is made from; a number and a place make it a worker's."""

    arguments: WorkerArguments
    placement: Placement
    startup_timeout_s: float
    response_timeout_s: float
    # The most jobs that a worker has at once, not counting a batch that was sent ahead.
    capacity: int
    nodes: Nodes
    # Workers keep to processors of their own.
    is_pinned: bool

    @property
    def rows(self) -> int:
        """The most jobs of one batch."""
        return 1 if self.arguments.mode == "async" else self.capacity

    def room_of(self, arguments: WorkerArguments) -> int:
        """The most jobs that the worker with these arguments has at once.

        One from before a change of the batch size never gets more than it was told."""
        if self.arguments.mode == "async":
            return self.capacity
        return min(self.capacity, arguments.batch_size)

    @property
    def overlaps(self) -> bool:
        """Whether jobs come and go one by one, beside each other, instead of in batches."""
        return self.arguments.mode != "batch"

    @property
    def goes_ahead(self) -> bool:
        """Whether a worker may have its next batch waiting at its door.

        Not where a batch is one job, which would wait there beside a worker that is free; and not
        where ranks must all be done with a batch before the next one."""
        return self.capacity > 1 and not self.arguments.ranks

    @property
    def always_ahead(self) -> bool:
        """Whether that batch need not be full: a GPU copies it while it computes the other."""
        return self.goes_ahead and self.placement.is_on_gpu

    def with_batch_size(self, rows: int) -> WorkerPlan:
        """For workers that are told another batch size."""
        capacity = self.capacity if self.arguments.mode == "async" else rows
        return replace(self, arguments=replace(self.arguments, batch_size=rows), capacity=capacity)

    def is_outdated(self, arguments: WorkerArguments) -> bool:
        """Whether a worker with these arguments was told another batch size."""
        return arguments.batch_size != self.arguments.batch_size

    def capped(self, workers: int) -> int:
        """As many of these workers as there is room for."""
        most = self.placement.most_workers
        return workers if most is None else min(workers, most)

    def arguments_of(
        self, number: int, place: Place, workers: int = 1, seat: int | None = None
    ) -> WorkerArguments:
        """The arguments of the worker of this number and place, one of so many."""
        own = replace(self._on_processors(seat or number, workers), number=number)
        if not self.placement.is_on_gpu:
            return own
        gpus = tuple(map(_gpu_number, place))
        if self.placement.is_narrow:
            # Of those that it sees, the first one.
            return replace(own, gpus=gpus, device="cuda:0", gpu_id=0)
        return replace(own, device=place[0], gpu_id=gpus[0])

    def _on_processors(self, number: int, workers: int) -> WorkerArguments:
        """With its threads, and with the processors that it keeps to."""
        share = share_of(self.nodes, number, workers) if self.is_pinned else ()
        free = len(share) or threads_for(self.nodes, workers)
        threads = self.arguments.threads or max(1, free // max(1, self.arguments.ranks))
        return replace(self.arguments, number=number, threads=threads, processors=share)


def worker_plan(description: ModelDescription, machine: Machine) -> WorkerPlan:
    """The plan of one version of a model on this machine.

    Raises StartFailed where not one of its workers could have the GPUs that it needs."""
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
        mode=description.mode,
        # 0, until it is known how many workers share the machine.
        threads=description.parallel.threads
        or (serving.threads if serving.threads != "auto" else 0),
        arena_bytes=serving.arena_bytes,
        answers_bytes=serving.answers_bytes,
        max_answer_bytes=serving.max_answer_bytes,
        extra_paths=description.extra_paths,
        envelope=serving.envelope,
        decode_input=serving.decode_input,
        limit_image_pixels=serving.limit_image_pixels,
        hidden_variables=serving.hidden_variables,
        variables=_variables(serving),
        metrics_config=machine.metrics_config,
        metrics_lines=machine.config.metrics.mode != "prometheus",
        log_level=machine.config.log.level,
        log_line_bytes=machine.config.log.worker_line_bytes,
        ranks=description.parallel.ranks,
    )
    capacity = serving.concurrent_calls if description.mode == "async" else description.batch_size
    return WorkerPlan(
        arguments,
        placement_of(description, machine),
        description.startup_timeout_s,
        description.response_timeout_s,
        capacity,
        machine.nodes,
        serving.pin_workers,
    )


def placement_of(description: ModelDescription, machine: Machine) -> Placement:
    """Where the model's workers may go. Raises as `worker_plan`."""
    ids = _known_ids(description, machine.gpus)
    if description.device_type == "cpu" or not machine.gpus:
        return Placement((("cpu",),), ids, is_narrow=False, use=machine.device_use)
    gpus = tuple(f"cuda:{index}" for index in ids) or machine.gpus
    level = description.parallel.level
    size = level or 1
    places = tuple(gpus[first : first + size] for first in range(0, len(gpus) - size + 1, size))
    if not places:
        raise StartFailed(
            f"Not enough GPUs for model {description.name}, parallelLevel {level}.",
            why=f"a worker needs {level}, and the model may use {len(gpus)}",
            fix="ask for fewer, or set deviceType: cpu",
        )
    return Placement(places, ids, is_narrow=level > 0, use=machine.device_use)


def _known_ids(description: ModelDescription, gpus: Sequence[str]) -> tuple[int, ...]:
    """The GPUs that the model names; as in TorchServe, one that is not there spoils the list."""
    ids = description.device_ids
    if all(f"cuda:{index}" in gpus for index in ids):
        return ids
    text = "deviceIds: %s is ignored, not all of them are among the %d GPUs that are used"
    log.warning(text, list(ids), len(gpus), model=description.name, version=description.version)
    return ()


def _gpu_number(device: str) -> int:
    return int(device.partition(":")[2])


def _variables(serving: ServingSettings) -> dict[str, str]:
    """What handlers, and the `ts` package, find in their environment."""
    return {
        "TS_DECODE_INPUT_REQUEST": str(serving.decode_input).lower(),
        "TS_REQUEST_SEQUENCE_ID": serving.sequence_id_header,
        "TS_REQUEST_SEQUENCE_START": serving.sequence_start_header,
        "TS_REQUEST_SEQUENCE_END": serving.sequence_end_header,
    }
