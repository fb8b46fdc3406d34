"""What each key of config.properties means to tsd: a setting, or nothing, and why.

One table. How TorchServe's addresses become doors is in doors.py."""

from __future__ import annotations

from dataclasses import dataclass

from tsd.properties.forms import (
    FLAG,
    JSON,
    MILLISECONDS,
    MINUTES,
    NUMBER,
    OPPOSITE,
    SECONDS,
    TEXT,
    WORD,
    WORDS,
    Form,
)


@dataclass(frozen=True)
class Key:
    """The setting that a key is, how its values are written, and what is different, if anything.

    Whether TorchServe reads it from the environment, too: there it is `TS_` and the key."""

    setting: str
    form: Form = TEXT
    note: str = ""
    is_variable: bool = True


KEYS = {
    "model_store": Key("model_store"),
    "load_models": Key("models"),
    "models": Key("torchserve.models", JSON, is_variable=False),
    "model_snapshot": Key("torchserve.snapshot", JSON, is_variable=False),
    "python": Key("python", is_variable=False),
    "default_workers_per_model": Key("serving.default_workers", NUMBER),
    "default_response_timeout": Key("serving.response_timeout_s", SECONDS),
    "default_startup_timeout": Key("serving.startup_timeout_s", SECONDS),
    "unregister_model_timeout": Key(
        "serving.drain_s", SECONDS, "what has begun is finished, then, at the server's end, too"
    ),
    "job_queue_size": Key("serving.queue_size", NUMBER),
    "number_of_gpu": Key("serving.max_gpus", NUMBER),
    "max_request_size": Key("http.max_request_bytes", NUMBER),
    "max_response_size": Key("serving.max_answer_bytes", NUMBER),
    "limit_max_image_pixels": Key("serving.limit_image_pixels", FLAG),
    "decode_input_request": Key("serving.decode_input", FLAG),
    "default_service_handler": Key("serving.default_handler"),
    "service_envelope": Key("serving.envelope"),
    "install_py_dep_per_model": Key(
        "archives.install_requirements", FLAG, "into an environment of the model's own, kept"
    ),
    "allowed_urls": Key(
        "archives.allowed_urls", WORDS, "a private address only where a rule names its host"
    ),
    "blacklist_env_vars": Key("serving.hidden_variables"),
    "enable_model_api": Key("access.model_api", FLAG),
    "disable_token_authorization": Key("access.tokens", OPPOSITE),
    "token_expiration_min": Key("access.token_lifetime_s", MINUTES),
    "keystore": Key("tls.keystore"),
    "keystore_pass": Key("tls.keystore_password"),
    "private_key_file": Key("tls.private_key"),
    "certificate_file": Key("tls.certificate"),
    "enable_grpc_ssl": Key("tls.grpc", FLAG),
    "cors_allowed_origin": Key("cors.origin"),
    "cors_allowed_methods": Key("cors.methods"),
    "cors_allowed_headers": Key("cors.headers"),
    "metrics_mode": Key("metrics.mode", WORD),
    "metrics_config": Key("metrics.file"),
    "model_metrics_auto_detect": Key("metrics.auto_detect", FLAG),
    "disable_system_metrics": Key("metrics.system", OPPOSITE),
    "metric_time_interval": Key("metrics.interval_s", SECONDS, is_variable=False),
    "grpc_inference_max_connection_age_ms": Key(
        "grpc.max_connection_age_s", MILLISECONDS, "one setting for both gRPC doors"
    ),
    "grpc_inference_max_connection_age_grace_ms": Key(
        "grpc.max_connection_age_grace_s", MILLISECONDS, "one setting for both gRPC doors"
    ),
    "ts_open_inference_protocol": Key("torchserve.open_inference", FLAG),
    "ts_header_key_sequence_id": Key("serving.sequence_id_header"),
    "ts_header_key_sequence_start": Key("serving.sequence_start_header"),
    "ts_header_key_sequence_end": Key("serving.sequence_end_header"),
}

_NO_JVM = "there is no Java virtual machine"
_ONE_LOOP = "one event loop serves all connections"
_ONE_AGE = "the key of the inference door holds for both gRPC doors"
_NO_WORKFLOWS = "TorchServe has removed workflows"
_XEON = "serving.threads says how many threads a worker has, serving.pin_workers where it computes"
_IPEX = "a handler that wants the extension imports it"

WITHOUT_MEANING = {
    "workflow_store": _NO_WORKFLOWS,
    "number_of_netty_threads": _ONE_LOOP,
    "netty_client_threads": _ONE_LOOP,
    "prefer_direct_buffer": _NO_JVM,
    "use_native_io": "workers and daemon always share memory and a Unix socket",
    "io_ratio": _ONE_LOOP,
    "vmargs": _NO_JVM,
    "plugins_path": "Java plugins cannot be loaded",
    "async_logging": "the log never waits for its reader",
    "cpp_log_config": "there is no C++ backend",
    "debug": "`tsd --log-level debug` shows more; workers are always started",
    "initial_worker_port": "workers have no ports; their ids count from 9000",
    "initial_distribution_port": "free ports are found for workers that need them",
    "system_metrics_cmd": "the daemon reads the system's metrics itself",
    "ipex_enable": _IPEX,
    "ipex_gpu_enable": _IPEX,
    "cpu_launcher_enable": _XEON,
    "cpu_launcher_args": _XEON,
    "keystore_type": "a keystore is PKCS12; `keytool -importkeystore` converts others",
    "grpc_management_max_connection_age_ms": _ONE_AGE,
    "grpc_management_max_connection_age_grace_ms": _ONE_AGE,
    "model_server_home": "tsd finds its own files",
    "snapshot_store": "snapshots are files in torchserve.snapshot_dir",
}
"""Keys that say nothing to tsd: each is named in a warning, with this reason."""

READ_ELSEWHERE = {"enable_envvars_config", "use_env_allowed_urls", "version", "tsConfigFile"}
"""Keys that say how the others are read, and what TorchServe notes in a snapshot."""

VARIABLES = {
    "token_expiration_min": "TS_TOKEN_EXPIRATION_TIME_MIN",
    "ts_open_inference_protocol": "TS_OPEN_INFERENCE_PROTOCOL",
    "ts_header_key_sequence_id": "TS_HEADER_KEY_SEQUENCE_ID",
    "ts_header_key_sequence_start": "TS_HEADER_KEY_SEQUENCE_START",
    "ts_header_key_sequence_end": "TS_HEADER_KEY_SEQUENCE_END",
}
"""Keys whose variable has another name than `TS_` and the key."""
