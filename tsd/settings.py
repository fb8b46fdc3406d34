"""Every setting with its default, its bounds and its meaning. Where values come from: config.py."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import msgspec
from msgspec import Meta

MIB = 1024 * 1024

Bytes = Annotated[int, Meta(ge=1, le=2**40)]
BytesOrNone = Annotated[int, Meta(ge=0, le=2**50)]
HeaderBytes = Annotated[int, Meta(ge=256, le=MIB)]
Count = Annotated[int, Meta(ge=1, le=1_000_000)]
CountOrNone = Annotated[int, Meta(ge=0, le=1_000_000)]
WeightOrNone = Annotated[int, Meta(ge=0, le=10_000)]
Seconds = Annotated[float, Meta(gt=0, le=86_400)]
Level = Literal["debug", "info", "warning", "error", "critical"]
LogFormat = Literal["auto", "console", "text", "json", "journal"]
Remote = Literal["no", "with-token", "anyone"]
MetricsMode = Literal["prometheus", "log", "legacy"]
Lifetime = Annotated[float, Meta(gt=0, le=31_536_000)]
SecondsOrNone = Annotated[float, Meta(ge=0, le=31_536_000)]


@dataclass(frozen=True)
class Given:
    """What one source says about one setting."""

    value: object
    origin: str


def about(meaning: str) -> Meta:
    """What a setting is for, as `tsd --print-config` shows it."""
    return Meta(description=meaning)


class DoorSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Listening addresses: `[https://]ADDRESS:PORT`, a socket's absolute path, or `none`."""

    http: Annotated[str, about("Where predictions are asked for.")] = "127.0.0.1:8080"
    management: Annotated[str, about("Where models are managed over TCP.")] = "none"
    metrics: Annotated[str, about("Where Prometheus reads.")] = "127.0.0.1:8082"
    grpc: Annotated[str, about("Where predictions are asked for by gRPC.")] = "127.0.0.1:7070"
    grpc_management: Annotated[str, about("Where models are managed by gRPC.")] = "none"
    remote: Annotated[Remote, about("Whether doors may be open to other machines.")] = "no"


class TlsSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """For doors whose address begins with `https://`, and for gRPC where it is asked for."""

    certificate: Annotated[Path | None, about("Certificate chain, PEM.")] = None
    private_key: Annotated[Path | None, about("Its private key, PEM.")] = None
    keystore: Annotated[Path | None, about("Both in one PKCS12 file.")] = None
    keystore_password: Annotated[str, about("Password of that file.")] = "changeit"
    grpc: Annotated[bool, about("Whether the gRPC doors speak TLS.")] = False


class CorsSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What browsers are told of other origins; nothing where a value is empty."""

    origin: Annotated[str, about("Access-Control-Allow-Origin.")] = ""
    methods: Annotated[str, about("Access-Control-Allow-Methods.")] = ""
    headers: Annotated[str, about("Access-Control-Allow-Headers.")] = ""


class AccessSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Who may ask what by TCP; on Unix sockets the kernel says who calls."""

    tokens: Annotated[bool, about("Whether TCP callers need TorchServe's tokens.")] = False
    key_file: Annotated[Path | None, about("Where the tokens are written.")] = None
    token_lifetime_s: Annotated[Lifetime, about("How long a token is good.")] = 3600.0
    model_api: Annotated[bool, about("Whether models come and go by TCP.")] = True


class GrpcSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Limits of the gRPC doors."""

    max_connection_age_s: Annotated[
        SecondsOrNone, about("When connections are renewed; 0: never.")
    ] = 0.0
    max_connection_age_grace_s: Annotated[
        SecondsOrNone, about("How long calls on them may go on; 0: to their end.")
    ] = 0.0
    max_streams: Annotated[Count, about("Calls at once on all connections.")] = 10_000
    max_connections: Annotated[Count, about("Open connections of one inherited socket.")] = 1_000


class HttpSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Limits and timeouts of every HTTP connection."""

    max_request_bytes: Annotated[Bytes, about("Largest body of a request.")] = 6_553_500
    max_heap_bytes: Annotated[
        Bytes, about("Bodies of one door that have no place in shared memory yet.")
    ] = 256 * MIB
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
    arena_idle_s: Annotated[
        SecondsOrNone, about("Until unused shared memory is given back; 0: never.")
    ] = 60.0
    max_answer_bytes: Annotated[Bytes, about("Largest answer of a handler.")] = 256 * MIB
    stream_buffer_bytes: Annotated[
        Bytes, about("Streamed answer that may wait for a slow client.")
    ] = 16 * MIB
    threads: Annotated[
        Count | Literal["auto"], about("Threads of a worker on the CPU; auto: all, shared evenly.")
    ] = 1
    pin_workers: Annotated[
        bool, about("Whether workers keep to processors of their own, of one memory node.")
    ] = False
    workers_at_start: Annotated[
        CountOrNone, about("Workers of a model of `models` that names no number.")
    ] = 1
    max_gpus: Annotated[CountOrNone, about("GPUs that are used, of those that are there.")] = 64
    concurrent_calls: Annotated[Count, about("Calls of one asynchronous handler at once.")] = 100
    model_memory_bytes: Annotated[
        BytesOrNone, about("Memory of a model's workers, where systemd delegates it; 0: no limit.")
    ] = 0
    model_pids: Annotated[CountOrNone, about("Their processes and threads; 0: no limit.")] = 0
    model_cpu_weight: Annotated[
        WeightOrNone, about("All models' share of busy processors; the daemon's is 100; 0: 100.")
    ] = 0
    default_handler: Annotated[str, about("Handler of archives that name none.")] = ""
    envelope: Annotated[str, about("Request envelope: body, json, kserve, kservev2.")] = ""
    decode_input: Annotated[bool, about("Whether JSON and text reach handlers decoded.")] = True
    limit_image_pixels: Annotated[bool, about("Whether Pillow refuses huge images.")] = True
    hidden_variables: Annotated[
        str, about("Environment that workers do not see: a regular expression.")
    ] = ""
    sequence_id_header: Annotated[str, about("Header with a sequence's id.")] = (
        "ts_request_sequence_id"
    )
    sequence_start_header: Annotated[str, about("Header of a sequence's first request.")] = (
        "ts_request_sequence_start"
    )
    sequence_end_header: Annotated[str, about("Header of a sequence's last request.")] = (
        "ts_request_sequence_end"
    )


class ArchiveSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Bounds of what an archive may unpack to."""

    max_files: Annotated[Count, about("Files in one archive.")] = 10_000
    max_bytes: Annotated[Bytes, about("All its files, unpacked.")] = 64 * 1024 * MIB
    max_ratio: Annotated[Count, about("How many times larger than packed.")] = 200
    allowed_urls: Annotated[
        tuple[str, ...], about("Regular expressions of URLs that archives may come from.")
    ] = ()
    private_urls: Annotated[
        bool, about("Whether rules for any host reach private addresses, too, as in TorchServe.")
    ] = False
    max_download_bytes: Annotated[Bytes, about("Largest archive from a URL.")] = 8 * 1024 * MIB
    download_timeout_s: Annotated[Seconds, about("Longest download of an archive.")] = 600.0
    install_requirements: Annotated[
        bool, about("Whether requirements.txt of archives is installed.")
    ] = False
    install_timeout_s: Annotated[Seconds, about("Longest installation of requirements.")] = 1_800.0


class RuntimeSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The interpreters that run workers, and how they are made."""

    index_url: Annotated[
        str, about("Where pip finds builds of torch: a URL; {build} is cpu, cu126, ...")
    ] = ""
    check_timeout_s: Annotated[Seconds, about("Longest trial of an interpreter.")] = 120.0
    create_timeout_s: Annotated[Seconds, about("Longest making of an environment.")] = 3_600.0


class MetricsSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What is measured, and where TorchServe's metrics go."""

    mode: Annotated[MetricsMode, about("TorchServe's: on the page, or in files.")] = "prometheus"
    file: Annotated[Path | None, about("A metrics.yaml in place of the built-in one.")] = None
    auto_detect: Annotated[bool, about("Whether undeclared handler metrics count.")] = True
    system: Annotated[bool, about("Whether the machine's load is measured.")] = True
    interval_s: Annotated[Seconds, about("How often that is.")] = 60.0
    folder: Annotated[Path | None, about("Where the files of mode `log` go.")] = None
    max_series: Annotated[Count, about("Series of handlers' metrics that are kept.")] = 10_000


class TorchServeSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a config.properties asks for beyond tsd's own settings."""

    is_strict: Annotated[bool, about("Answer as TorchServe where tsd would offer more.")] = False
    open_inference: Annotated[bool, about("TorchServe's own Open Inference routes.")] = False
    models: Annotated[str, about("Settings per model and version: JSON.")] = ""
    snapshot: Annotated[str, about("The models of a snapshot: JSON.")] = ""
    snapshot_dir: Annotated[Path | None, about("Where snapshots are written.")] = None


class LogSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Where the log goes and how much of it."""

    level: Annotated[Level, about("Least important records that are written.")] = "info"
    format: Annotated[LogFormat, about("How records are written.")] = "auto"
    kept_records: Annotated[Count, about("Records kept for tsctl logs.")] = 2_000
    worker_lines_per_s: Annotated[Count, about("Lines a worker may print, before some drop.")] = 200
    worker_line_bytes: Annotated[Bytes, about("Where a worker's line is cut.")] = 8_192
    folder: Annotated[Path | None, about("Where TorchServe's log files are written, too.")] = None
    file_bytes: Annotated[Bytes, about("Where such a file is rotated.")] = 100 * MIB
    kept_files: Annotated[Count, about("Rotated files that are kept of each.")] = 5


class Config(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """All settings of one daemon."""

    model_store: Annotated[Path | None, about("The folder that archives come from.")] = None
    models: Annotated[str, about("Models to serve from the start: NAME=ARCHIVE,... or all.")] = ""
    runtime_dir: Annotated[Path, about("Where control.sock and http.sock are made.")] = Path(
        "/run/tsd"
    )
    state_dir: Annotated[Path, about("Where the desired state is kept.")] = Path("/var/lib/tsd")
    python: Annotated[Path | None, about("The default runtime: an interpreter that has torch.")] = (
        None
    )
    exit_on_idle_s: Annotated[
        SecondsOrNone, about("How long nothing may be asked before the daemon leaves; 0: for ever.")
    ] = 0.0
    doors: DoorSettings = DoorSettings()
    tls: TlsSettings = TlsSettings()
    cors: CorsSettings = CorsSettings()
    access: AccessSettings = AccessSettings()
    http: HttpSettings = HttpSettings()
    grpc: GrpcSettings = GrpcSettings()
    serving: ServingSettings = ServingSettings()
    archives: ArchiveSettings = ArchiveSettings()
    runtimes: RuntimeSettings = RuntimeSettings()
    metrics: MetricsSettings = MetricsSettings()
    torchserve: TorchServeSettings = TorchServeSettings()
    log: LogSettings = LogSettings()
