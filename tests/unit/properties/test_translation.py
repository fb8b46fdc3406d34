"""What a config.properties comes to: its values, TorchServe's defaults, and what is told."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tsd.config import SETTINGS
from tsd.errors import ConfigError
from tsd.properties import doors
from tsd.properties.keys import KEYS, READ_ELSEWHERE, WITHOUT_MEANING
from tsd.properties.translation import DEFAULTS, Translation, translate

# All keys that TorchServe 0.12.0 has, by its documentation and its source.
OF_TORCHSERVE = """
    inference_address management_address metrics_address grpc_inference_address
    grpc_management_address grpc_inference_port grpc_management_port
    grpc_inference_max_connection_age_ms grpc_management_max_connection_age_ms
    grpc_inference_max_connection_age_grace_ms grpc_management_max_connection_age_grace_ms
    enable_grpc_ssl model_store load_models models model_snapshot workflow_store
    default_workers_per_model default_response_timeout default_startup_timeout
    unregister_model_timeout job_queue_size number_of_gpu number_of_netty_threads
    netty_client_threads max_request_size max_response_size limit_max_image_pixels
    decode_input_request default_service_handler service_envelope install_py_dep_per_model
    allowed_urls use_env_allowed_urls blacklist_env_vars enable_model_api
    disable_token_authorization token_expiration_min keystore keystore_pass keystore_type
    private_key_file certificate_file cors_allowed_origin cors_allowed_methods
    cors_allowed_headers enable_metrics_api metrics_mode metrics_config
    model_metrics_auto_detect disable_system_metrics system_metrics_cmd metric_time_interval
    initial_worker_port initial_distribution_port prefer_direct_buffer use_native_io io_ratio
    async_logging debug ipex_enable ipex_gpu_enable cpu_launcher_enable cpu_launcher_args
    cpp_log_config ts_open_inference_protocol ts_header_key_sequence_id
    ts_header_key_sequence_start ts_header_key_sequence_end model_server_home
    enable_envvars_config vmargs plugins_path python version
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "config.properties"


def translated(file: Path, text: str, **environment: str) -> Translation:
    file.write_text(text)
    return translate(file, environment)


def value(translation: Translation, key: str) -> Any:
    return translation.settings[key].value


def test_every_key_of_torchserve_is_a_setting_or_has_a_reason() -> None:
    known = {*KEYS, *doors.KEYS, *WITHOUT_MEANING, *READ_ELSEWHERE}
    assert set(OF_TORCHSERVE.split()) - known == set()
    assert {key.setting for key in KEYS.values()} <= set(SETTINGS)
    assert set(DEFAULTS) <= set(SETTINGS)
    assert len(KEYS) + len(doors.KEYS) + len(WITHOUT_MEANING) + len(READ_ELSEWHERE) == len(known)


@pytest.mark.parametrize(
    ("line", "setting", "expected"),
    [
        ("model_store=/store", "model_store", "/store"),
        ("load_models=all", "models", "all"),
        ("default_workers_per_model=3", "serving.default_workers", 3),
        ("default_workers_per_model=3", "serving.workers_at_start", 3),
        ("default_response_timeout = 5 ", "serving.response_timeout_s", 5.0),
        ("default_response_timeout=1200000", "serving.response_timeout_s", 86_400.0),
        ("token_expiration_min=0.5", "access.token_lifetime_s", 30.0),
        ("token_expiration_min=99999999", "access.token_lifetime_s", 31_536_000.0),
        ("metrics_mode=PROMETHEUS", "metrics.mode", "prometheus"),
        ("grpc_inference_max_connection_age_ms=1500", "grpc.max_connection_age_s", 1.5),
        ("disable_token_authorization=TRUE", "access.tokens", False),
        ("disable_token_authorization=no", "access.tokens", True),
        ("enable_model_api=true", "access.model_api", True),
        ("disable_system_metrics=true", "metrics.system", False),
        ("allowed_urls=https://a/.*,file://.*", "archives.allowed_urls", ("https://a/.*", "file://.*")),
        ('models={ "m" :\\\n {"1.0": 2}}', "torchserve.models", '{"m":{"1.0":2}}'),
        ("inference_address=https://127.0.0.1", "doors.http", "https://127.0.0.1:443"),
        ("grpc_management_port=5", "doors.grpc_management", "127.0.0.1:5"),
        ("enable_metrics_api=false", "doors.metrics", "none"),
        ("max_request_size=1073741824", "serving.arena_bytes", 1073741824 + (1 << 20)),
        ("max_response_size=1073741824", "serving.answers_bytes", 1073741824 + (1 << 20)),
    ],
)  # fmt: skip
def test_keys_become_settings(file: Path, line: str, setting: str, expected: object) -> None:
    assert value(translated(file, line), setting) == expected


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("job_queue_size=ten", "job_queue_size cannot be 'ten': it is not a whole number"),
        ("token_expiration_min=x", "token_expiration_min cannot be 'x': it is not a number"),
        ("models={", "models cannot be '{': it is not JSON"),
        ("inference_address=8080", "inference_address cannot be '8080': it is neither"),
        ("a=\\u12", "is not understood: \\u"),
        ("a=$$NOT_SET$$", "Invalid Environment Variable NOT_SET"),
    ],
)
def test_what_is_wrong_stops_the_start(file: Path, line: str, words: str) -> None:
    with pytest.raises(ConfigError) as caught:
        translated(file, line)
    assert words in f"{caught.value}: {caught.value.why}"


def test_a_file_that_is_absent_or_too_large_is_refused(file: Path) -> None:
    with pytest.raises(ConfigError, match="cannot be read"):
        translate(file, {})
    with pytest.raises(ConfigError, match="is not understood"):
        translated(file, "#" * (1024 * 1024 + 1))


def test_without_a_word_torchserve_s_defaults_hold(file: Path) -> None:
    settings: dict[str, Any] = {k: v.value for k, v in translated(file, "").settings.items()}
    assert settings["serving.workers_at_start"] >= 1
    assert settings["doors.management"] == "127.0.0.1:8081"
    assert {one.origin for one in translated(file, "").settings.values()} == {
        "TorchServe's default"
    }
    # An empty value says nothing, either.
    assert translated(file, "job_queue_size=\nload_models=").settings.keys() == settings.keys()


def test_variables_are_put_in_where_they_are_named(file: Path) -> None:
    line = "inference_address=http://$$HOST_NAME$$:$$PORT$$\nload_models=$a$b$$"
    found = translated(file, line, HOST_NAME="127.0.0.1", PORT="8085")
    assert value(found, "doors.http") == "127.0.0.1:8085"
    assert value(found, "models") == "$a$b$$"


def test_ts_variables_count_only_where_the_file_lets_them(file: Path) -> None:
    variables = {
        "TS_JOB_QUEUE_SIZE": "7",
        "TS_TOKEN_EXPIRATION_TIME_MIN": "2",
        "TS_ALLOWED_URLS": "file://.*",
        "TS_METRIC_TIME_INTERVAL": "5",
        "TS_VMARGS": "-Xmx1g",
    }
    assert "serving.queue_size" not in translated(file, "job_queue_size=", **variables).settings
    found = translated(file, "job_queue_size=3\nenable_envvars_config=true", **variables)
    assert value(found, "serving.queue_size") == 7
    assert found.settings["serving.queue_size"].origin == "environment TS_JOB_QUEUE_SIZE"
    assert value(found, "access.token_lifetime_s") == 120.0
    assert value(found, "archives.allowed_urls") == DEFAULTS["archives.allowed_urls"]
    assert "metrics.interval_s" not in found.settings
    text = "enable_envvars_config=true\nuse_env_allowed_urls=true"
    assert value(translated(file, text, **variables), "archives.allowed_urls") == ("file://.*",)


def test_some_variables_always_count(file: Path) -> None:
    found = translated(
        file, "", TS_OPEN_INFERENCE_PROTOCOL="oip", LOG_LOCATION="here", METRICS_LOCATION="there"
    )
    assert value(found, "torchserve.open_inference") is True
    assert value(found, "log.folder") == "here"
    assert value(found, "metrics.folder") == "there"


def test_keys_without_meaning_are_told_with_their_reason(file: Path) -> None:
    text = "vmargs=-Xmx1g\nkeystore_type=pkcs12\njob_queue_sizes=3\nversion=0.12.0\nzzz=1"
    warnings = translated(file, text).warnings
    assert warnings == (
        "config.properties vmargs has no meaning here: there is no Java virtual machine",
        "config.properties job_queue_sizes is not known; did you mean job_queue_size?",
        "config.properties zzz is not known",
    )
    assert "PKCS12" in translated(file, "keystore_type=JKS").warnings[0]
