"""Every setting with its default, its bounds and its meaning. Where values come from: config.py."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Literal

import msgspec
from msgspec import Meta

MIB = 1024 * 1024

Bytes = Annotated[int, Meta(ge=1, le=2**40)]
HeaderBytes = Annotated[int, Meta(ge=256, le=MIB)]
Count = Annotated[int, Meta(ge=1, le=1_000_000)]
CountOrNone = Annotated[int, Meta(ge=0, le=1_000_000)]
Seconds = Annotated[float, Meta(gt=0, le=86_400)]
Level = Literal["debug", "info", "warning", "error", "critical"]
LogFormat = Literal["auto", "console", "text", "json", "journal"]


def about(meaning: str) -> Meta:
    """What a setting is for, as `tsd --print-config` shows it."""
    return Meta(description=meaning)


class DoorSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Listening addresses: `ADDRESS:PORT`, or `none`."""

    http: Annotated[str, about("Where predictions are asked for.")] = "127.0.0.1:8080"
    management: Annotated[str, about("Where models are managed over TCP.")] = "none"
    metrics: Annotated[str, about("Where Prometheus reads.")] = "127.0.0.1:8082"
    grpc: Annotated[str, about("For gRPC, which this release does not speak yet.")] = "none"


class HttpSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Limits and timeouts of every HTTP connection."""

    max_request_bytes: Annotated[Bytes, about("Largest body of a request.")] = 6_553_500
    max_target_bytes: Annotated[HeaderBytes, about("Longest path with its query.")] = 16_384
    max_header_bytes: Annotated[HeaderBytes, about("Longest single header.")] = 16_384
    max_headers_bytes: Annotated[HeaderBytes, about("All headers of a request together.")] = 65_536
    max_headers: Annotated[Count, about("Number of headers of a request.")] = 100
    max_connections: Annotated[Count, about("Open connections of one door.")] = 10_000
    max_pipelined: Annotated[Count, about("Requests read ahead on one connection.")] = 32
    header_timeout_s: Annotated[Seconds, about("From a request's first byte to its body.")] = 10.0
    body_grace_s: Annotated[Seconds, about("Before a slow body is measured.")] = 10.0
    body_bytes_per_s: Annotated[Count, about("Slowest rate at which a body may come.")] = 240
    keep_alive_s: Annotated[Seconds, about("How long a connection may be idle.")] = 75.0
    write_timeout_s: Annotated[Seconds, about("How long a client may not read.")] = 30.0
    backlog: Annotated[Count, about("Clients that may wait to be accepted.")] = 4096


class ServingSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Defaults and bounds of every model; a model's own file may set its own within them."""

    queue_size: Annotated[Count, about("Jobs that may wait for one model.")] = 100
    default_workers: Annotated[
        CountOrNone, about("Workers of a model registered with no number, as in TorchServe.")
    ] = 0
    max_workers: Annotated[Count, about("Most workers of one model.")] = 64
    deadline_s: Annotated[Seconds, about("From a request's arrival to its answer.")] = 120.0
    response_timeout_s: Annotated[Seconds, about("Longest run of one batch.")] = 120.0
    startup_timeout_s: Annotated[Seconds, about("From a worker's start to ready.")] = 120.0
    drain_s: Annotated[Seconds, about("How long begun work may take to finish.")] = 30.0
    stop_s: Annotated[Seconds, about("Between asking a worker to end and killing it.")] = 5.0
    arena_bytes: Annotated[Bytes, about("Most shared memory of a model's requests.")] = 256 * MIB
    answers_bytes: Annotated[Bytes, about("Most shared memory of a worker's answers.")] = 256 * MIB
    threads: Annotated[Count, about("Threads of a worker on the CPU.")] = 1


class ArchiveSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Bounds of what an archive may unpack to."""

    max_files: Annotated[Count, about("Files in one archive.")] = 10_000
    max_bytes: Annotated[Bytes, about("All its files, unpacked.")] = 64 * 1024 * MIB
    max_ratio: Annotated[Count, about("How many times larger than packed.")] = 200


class LogSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Where the log goes and how much of it."""

    level: Annotated[Level, about("Least important records that are written.")] = "info"
    format: Annotated[LogFormat, about("How records are written.")] = "auto"
    kept_records: Annotated[Count, about("Records kept for tsctl logs.")] = 2_000
    worker_lines_per_s: Annotated[Count, about("Lines a worker may print, before some drop.")] = 200
    worker_line_bytes: Annotated[Bytes, about("Where a worker's line is cut.")] = 8_192


class Config(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """All settings of one daemon."""

    model_store: Annotated[Path | None, about("The folder that archives come from.")] = None
    models: Annotated[str, about("Models to serve from the start: NAME=ARCHIVE,... or all.")] = ""
    runtime_dir: Annotated[Path, about("Where control.sock and http.sock are made.")] = Path(
        "/run/tsd"
    )
    state_dir: Annotated[Path, about("Where the desired state is kept.")] = Path("/var/lib/tsd")
    python: Annotated[Path, about("The interpreter that has torch.")] = Path(sys.executable)
    doors: DoorSettings = DoorSettings()
    http: HttpSettings = HttpSettings()
    serving: ServingSettings = ServingSettings()
    archives: ArchiveSettings = ArchiveSettings()
    log: LogSettings = LogSettings()
