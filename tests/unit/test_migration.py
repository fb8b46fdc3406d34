"""From config.properties to tsd.toml: the same meaning, and a row for each key."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from tests.unit.test_config import Places, load
from tsd import config
from tsd.migration import migrate

FILES = {
    "empty": "",
    "image": """
        inference_address=http://0.0.0.0:8080
        management_address=http://0.0.0.0:8081
        metrics_address=http://0.0.0.0:8082
        number_of_netty_threads=32
        job_queue_size=1000
        model_store=/home/model-server/model-store
        workflow_store=/home/model-server/wf-store
        """,
    "rich": r"""
        inference_address=https://127.0.0.1:8443
        management_address=unix:/tmp/management.sock
        disable_token_authorization=true
        private_key_file=/key.pem
        certificate_file=/certificate.pem
        load_models=a=a.mar,b.mar
        models={"a": {"1.0": {"minWorkers": 1, "batchSize": 4}}}
        allowed_urls=https://models\\.example/.*
        cors_allowed_origin=*
        metrics_mode=prometheus
        install_py_dep_per_model=true
        enable_metrics_api=false
        max_request_size=500000000
        no_such_key=1
        """,
}


@pytest.mark.parametrize("name", FILES)
def test_the_new_file_means_what_the_old_one_meant(tmp_path: Path, name: str) -> None:
    old, new = tmp_path / "config.properties", tmp_path / "tsd.toml"
    old.write_text(FILES[name])
    migration = migrate(old, {"TSD_HTTP": "none"}, Places(tmp_path / "absent"))
    new.write_text(migration.toml)
    before = load(tmp_path / "absent", ts_config=old)
    after = load(new)
    assert config.changed(before.config, after.config) == []
    assert set(after.origins.values()) == {"default", str(new)}
    # What the operator is told at every start is told in the table once.
    assert set(migration.warnings) <= set(after.warnings)


def test_each_key_has_its_row(tmp_path: Path) -> None:
    old = tmp_path / "config.properties"
    old.write_text(FILES["rich"] + "\nvmargs=-Xmx1g\nenable_envvars_config=true\n")
    table = migrate(old, {}, Places(tmp_path / "absent")).table
    rows = {row.key: dataclasses.astuple(row)[1:] for row in table}
    assert rows["load_models"] == ("same", "models = a=a.mar,b.mar", "")
    assert rows["disable_token_authorization"] == ("same", "access.tokens = False", "")
    assert rows["inference_address"] == ("same", "doors.http = https://127.0.0.1:8443", "")
    assert rows["enable_metrics_api"] == ("same", "doors.metrics = none", "")
    verdict, becomes, why = rows["install_py_dep_per_model"]
    assert (verdict, becomes) == ("changed", "archives.install_requirements = True")
    assert "environment" in why
    assert rows["vmargs"] == ("gone", "", "there is no Java virtual machine")
    assert rows["no_such_key"][:2] == ("gone", "")
    assert rows["enable_envvars_config"][0] == "gone"
    assert len(rows) == len(table) == len(FILES["rich"].split("\n")) - 2 + 2
