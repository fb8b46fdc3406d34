"""The configuration: every setting with its default, its unit and its meaning.

A `Config` is made by `load`, then frozen; a reload makes a new one. Sources, strongest first:
command line, environment (`TSD_*`), drop-ins (`tsd.toml.d/*.toml`), `tsd.toml`, defaults."""

from __future__ import annotations

import sys
from pathlib import Path

import msgspec

MIB = 1024 * 1024


class DoorSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Listening addresses: `ADDRESS:PORT`, or `none`."""

    http: str = "127.0.0.1:8080"
    management: str = "none"
    metrics: str = "127.0.0.1:8082"
    grpc: str = "none"


class HttpSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Limits and timeouts of every HTTP connection."""

    max_request_bytes: int = 6_553_500
    max_target_bytes: int = 16_384
    max_header_bytes: int = 16_384
    max_headers_bytes: int = 65_536
    max_headers: int = 100
    max_connections: int = 10_000
    max_pipelined: int = 32
    header_timeout_s: float = 10.0
    body_grace_s: float = 10.0
    body_bytes_per_s: int = 240
    keep_alive_s: float = 75.0
    write_timeout_s: float = 30.0
    backlog: int = 4096


class ServingSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Defaults and bounds of every model; a model's own file may set its own within them."""

    queue_size: int = 100
    default_workers: int = 1
    max_workers: int = 64
    deadline_s: float = 120.0
    response_timeout_s: float = 120.0
    startup_timeout_s: float = 120.0
    drain_s: float = 30.0
    stop_s: float = 5.0
    arena_bytes: int = 256 * MIB
    answers_bytes: int = 256 * MIB
    threads: int = 1


class ArchiveSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Bounds of what an archive may unpack to."""

    max_files: int = 10_000
    max_bytes: int = 64 * 1024 * MIB
    max_ratio: int = 200


class LogSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Where the log goes and how much of it."""

    level: str = "info"
    format: str = "auto"
    kept_records: int = 2_000
    worker_lines_per_s: int = 200
    worker_line_bytes: int = 8_192


class Config(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """All settings of one daemon."""

    model_store: Path | None = None
    models: str = ""
    runtime_dir: Path = Path("/run/tsd")
    state_dir: Path = Path("/var/lib/tsd")
    python: Path = Path(sys.executable)
    doors: DoorSettings = DoorSettings()
    http: HttpSettings = HttpSettings()
    serving: ServingSettings = ServingSettings()
    archives: ArchiveSettings = ArchiveSettings()
    log: LogSettings = LogSettings()
