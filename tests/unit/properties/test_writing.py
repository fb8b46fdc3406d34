"""Settings written as properties mean the same when they are read."""

from __future__ import annotations

from pathlib import Path

from tests.unit.test_config import load
from tsd import config
from tsd.properties import text
from tsd.properties.keys import KEYS
from tsd.properties.writing import properties_of

CHOSEN = """
inference_address=https://127.0.0.1:8443
management_address=unix:/tmp/m.sock
metrics_address=http://127.0.0.1:9
grpc_inference_port=9
model_store=/stores/déjà vu
load_models=a.mar,b=c.mar
models={"m": {"1.0": {"batchSize": 4}}}
default_response_timeout=7
token_expiration_min=1.5
disable_token_authorization=false
enable_model_api=true
max_request_size=777
allowed_urls=https://a/.*,file://.*
blacklist_env_vars=AWS_.*|.*SECRET
cors_allowed_origin=*
metrics_mode=prometheus
grpc_inference_max_connection_age_ms=1500
ts_header_key_sequence_id=id
certificate_file=/certificate.pem
"""


def test_what_a_file_said_is_written_so_that_it_reads_the_same(tmp_path: Path) -> None:
    first, second = tmp_path / "config.properties", tmp_path / "snapshot.cfg"
    first.write_text(CHOSEN)
    loaded = load(tmp_path / "tsd.toml", ts_config=first)
    written = properties_of(config.values(loaded.config))
    second.write_text(text.write(written, "Saving snapshot"))
    again = load(tmp_path / "tsd.toml", ts_config=second)
    # The file says 0 workers where a number of its own has been counted for the start.
    assert config.changed(loaded.config, again.config) == []
    assert set(text.parse(CHOSEN)) <= set(written)


def test_what_is_not_set_is_not_written(tmp_path: Path) -> None:
    written = properties_of(config.values(load(tmp_path / "tsd.toml").config))
    assert written.keys() & {"keystore", "allowed_urls", "load_models", "model_store"} == set()
    assert written["job_queue_size"] == "100"
    assert written["token_expiration_min"] == "60"
    assert written.keys() >= {name for name, key in KEYS.items() if key.setting == "access.tokens"}
