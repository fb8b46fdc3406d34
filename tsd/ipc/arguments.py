"""All that a worker is given, and how it crosses to the fork server: JSON beside descriptors.

The fork server answers with the process id of the new worker. Nothing else crosses the fork."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from typing import Any

from tsd.errors import ProtocolError


@dataclass(frozen=True, slots=True)
class WorkerArguments:
    """One worker: its model, its device, its memory. Sizes in bytes."""

    request_id: int
    model_name: str
    model_version: str
    number: int
    device: str
    gpu_id: int | None
    model_dir: str
    handler: str
    manifest: dict[str, Any] = field(default_factory=dict)
    model_yaml: dict[str, Any] = field(default_factory=dict)
    batch_size: int = 1
    # "batch": one batch at a time; "continuous": jobs join and leave a running one; "async":
    # each job is a call of its own, and calls overlap.
    mode: str = "batch"
    threads: int = 1
    # It keeps to these; none: the kernel moves it as it likes.
    processors: tuple[int, ...] = ()
    arena_bytes: int = 0
    answers_bytes: int = 0
    max_answer_bytes: int = 1 << 28
    extra_paths: tuple[str, ...] = ()
    envelope: str = ""
    decode_input: bool = True
    limit_image_pixels: bool = True
    hidden_variables: str = ""
    variables: dict[str, str] = field(default_factory=dict)
    metrics_config: dict[str, Any] = field(default_factory=dict)
    # Whether the daemon wants each line that is measured, or the last values.
    metrics_lines: bool = False
    # The least important level of the daemon's log, and where it cuts a line.
    log_level: str = "info"
    log_line_bytes: int = 8_192
    # The folder of its control group; empty: it stays in the fork server's.
    cgroup: str = ""
    # The GPUs that it sees, by number; none: all.
    gpus: tuple[int, ...] = ()
    # Of a worker of several processes, which this one is, how many they are, and where they meet.
    rank: int = 0
    ranks: int = 0
    meeting_port: int = 0

    @property
    def title(self) -> str:
        """The worker's process title."""
        worker = f"{self.model_name}/{self.model_version} #{self.number}"
        rank = f" rank {self.rank} of {self.ranks}" if self.ranks else ""
        return f"tsd worker: {worker}{rank} {self.device}"

    @property
    def group(self) -> str:
        """Its control group below that of all models: no other process has the same."""
        rank = f"-rank-{self.rank}" if self.ranks else ""
        return f"{self.model_name}@{self.model_version}/worker-{self.number}{rank}"


# In this order, beside the arguments of a fork.
WORKER_DESCRIPTORS = ("channel", "arena", "answers", "stdout", "stderr")


def pack_arguments(arguments: WorkerArguments) -> bytes:
    """The request for one fork."""
    return json.dumps(asdict(arguments)).encode()


def unpack_arguments(message: bytes) -> WorkerArguments:
    """The inverse of `pack_arguments`."""
    fields = json.loads(message)
    tuples = {name: tuple(fields[name]) for name in ("extra_paths", "gpus", "processors")}
    return WorkerArguments(**fields | tuples)


def pack_reply(request_id: int, pid: int, error: str = "") -> bytes:
    """The fork server's reply: a process id, and what failed: all of it, or its group only."""
    return json.dumps({"request_id": request_id, "pid": pid, "error": error}).encode()


def unpack_reply(message: bytes) -> tuple[int, int, str]:
    """Request id, process id (0: none) and error text of a reply; ProtocolError if malformed."""
    try:
        reply = json.loads(message)
        return int(reply["request_id"]), int(reply["pid"]), str(reply["error"])
    except (ValueError, KeyError, TypeError) as error:
        raise ProtocolError("the fork server sent a malformed reply") from error
