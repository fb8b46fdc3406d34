"""A daemon that is given TorchServe's config.properties, and the tsd.toml made from it."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.archives import make_archive
from tests.support.daemon import launched, running
from tsctl.commands.migrate import migrated
from tsctl.failure import Failure

# The tests' own addresses, and no file of keys where the tests run.
OWN = """
management_address=http://127.0.0.1:0
grpc_management_port=0
disable_token_authorization=true
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "config.properties"


def test_models_are_loaded_as_the_file_says(tmp_path: Path, file: Path) -> None:
    store = tmp_path / "store"
    store.mkdir()
    make_archive(tmp_path, "a", config="maxBatchDelay: 50").rename(store / "a.mar")
    make_archive(tmp_path, "b", config="batchSize: 2").rename(store / "b.mar")
    presets = {
        "a": {"1.0": {"minWorkers": 1, "maxWorkers": 2, "batchSize": 4, "maxBatchDelay": 7}},
        "b": {"1.0": {"batchSize": 8, "responseTimeout": 9}},
    }
    continued = json.dumps(presets, indent=2).replace("\n", "\\\n")
    file.write_text(
        f"{OWN}model_store={store}\nload_models=a.mar,\\\n  second=b.mar\n"
        f"models={continued}\ndefault_workers_per_model=3\n"
    )
    with running(tmp_path, "--ts-config", str(file)) as daemon:
        (a,) = daemon.call("GET", "/models/a").json()
        assert (a["minWorkers"], a["maxWorkers"], a["batchSize"]) == (1, 2, 4)
        assert a["maxBatchDelay"] == 50
        assert a["loadedAtStartup"] is True
        (second,) = daemon.call("GET", "/models/second").json()
        assert (second["minWorkers"], second["batchSize"]) == (3, 2)
        # Presets go by the name under which a model is served.
        assert second["responseTimeout"] == 120
        assert daemon.call("POST", "/predictions/second", b"x").body == b"x"
        assert "Model server started." in daemon.log
        store_url = f"/models?url={store}/b.mar&initial_workers=0"
        assert daemon.call("POST", store_url).status == 200
        (b,) = daemon.call("GET", "/models/b").json()
        assert (b["minWorkers"], b["batchSize"]) == (0, 2)


def test_what_the_file_says_in_vain_is_told(tmp_path: Path, file: Path) -> None:
    file.write_text(f"{OWN}vmargs=-Xmx1g\njob_queue_sice=3\n")
    with running(tmp_path, "--ts-config", str(file)) as daemon:
        assert "vmargs has no meaning here: there is no Java virtual machine" in daemon.log
        assert "did you mean job_queue_size?" in daemon.log


def test_a_variable_that_is_not_set_stops_the_start(tmp_path: Path, file: Path) -> None:
    file.write_text("inference_address=http://127.0.0.1:$$NO_SUCH_PORT$$")
    with launched(tmp_path, "--ts-config", str(file)) as daemon:
        assert daemon.process.wait(60) == 78
        assert "Invalid Environment Variable NO_SUCH_PORT" in daemon.log


def printed(*options: str) -> str:
    """What tsd says about its configuration."""
    command = [sys.executable, "-m", "tsd", *options]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def test_a_migrated_file_is_accepted_and_means_the_same(tmp_path: Path, file: Path) -> None:
    file.write_text(
        "inference_address=http://0.0.0.0:8080\nload_models=all\nmodel_store=/store\n"
        'models={"m": {"1.0": {"batchSize": 4}}}\nallowed_urls=https://a/.*\nvmargs=-Xmx1g\n'
    )
    target = tmp_path / "tsd.toml"
    command = [sys.executable, "-m", "tsctl", "migrate", str(file), "--output", str(target)]
    answer = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert re.search(r"^vmargs +gone +- +there is no Java virtual machine$", answer, re.MULTILINE)
    assert "valid" in printed("--config", str(target), "--check-config")

    def settings(*options: str) -> str:
        return re.sub(r" From: .*", "", printed(*options, "--print-config"))

    before = settings("--config", "/dev/null", "--ts-config", str(file))
    assert settings("--config", str(target)) == before


def test_a_file_that_is_not_there_is_told_in_tsd_s_words(tmp_path: Path) -> None:
    with pytest.raises(Failure, match="cannot be read") as caught:
        migrated(tmp_path / "absent")
    assert caught.value.why == "No such file or directory"
