"""What `torchserve` tells tsd: its options, TorchServe's variables, and the last snapshot."""

from __future__ import annotations

import os
import re
import sys
from pathlib import Path

import pytest
from ts.arg_parser import ArgParser
from tsd_torchserve import pid_file
from tsd_torchserve.command import Refused, settings, stop, unnamed_configuration


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "store").mkdir()
    return tmp_path / "store"


def said(*words: str, **environment: str) -> dict[str, str]:
    return settings(ArgParser.ts_parser().parse_args(words), environment)


def test_without_options_torchserves_defaults_and_snapshots(store: Path) -> None:
    assert said("--model-store", "store") == {
        "TSD_CONFIG": os.devnull,
        "TSD_TS_CONFIG": os.devnull,
        "TSD_PYTHON": sys.executable,
        "TSD_MODEL_STORE": "store",
        "TSD_TORCHSERVE_SNAPSHOT_DIR": str(store.parent / "logs" / "config"),
        "LOG_LOCATION": "logs",
        "METRICS_LOCATION": "logs",
    }


def test_where_nothing_can_be_written_there_are_no_log_files(
    store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Whoever runs the tests may write anywhere, if it is root.
    monkeypatch.setattr(os, "access", lambda *_: False)
    assert not said("--model-store", "store").keys() & {"LOG_LOCATION", "METRICS_LOCATION"}
    got = said("--model-store", "store", LOG_LOCATION="/l")
    assert got["LOG_LOCATION"] == "/l"
    assert "METRICS_LOCATION" not in got


def test_stopping_where_nothing_can_be_written_is_no_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    # No file that `unlink` could remove, for root neither.
    (tmp_path / "key_file.json").mkdir()
    pid_file.write(os.getpid())
    monkeypatch.setattr(pid_file, "terminate", lambda *_: True)
    assert stop(os.getpid(), is_waiting=False) == 0
    assert not pid_file.path().exists()


def test_options_become_settings(store: Path) -> None:
    words = ("--model-store", "store", "--ncs", "--dt", "--enable-model-api")
    got = said(*words, "--models", "a.mar", "b=c.mar", LOG_LOCATION="/l", TSD_CONFIG="/own.toml")
    assert got["TSD_MODELS"] == "a.mar,b=c.mar"
    assert got["TSD_ACCESS_TOKENS"] == "false"
    assert got["TSD_ACCESS_MODEL_API"] == "true"
    assert got["TSD_CONFIG"] == "/own.toml"
    assert (got["LOG_LOCATION"], got["METRICS_LOCATION"]) == ("/l", "logs")
    assert "TSD_TORCHSERVE_SNAPSHOT_DIR" not in got


def test_the_variable_goes_before_the_option_and_both_before_what_lies_there(store: Path) -> None:
    for name in ("a.properties", "b.properties", "config.properties"):
        Path(name).write_text("model_store=store\n")
    named = said("--ts-config", "a.properties", TS_CONFIG_FILE="b.properties")
    assert named["TSD_TS_CONFIG"] == "b.properties"
    assert named["TSD_MODEL_STORE"] == "store"
    assert said("--ts-config", "a.properties")["TSD_TS_CONFIG"] == "a.properties"
    assert said("--model-store", "store")["TSD_TS_CONFIG"] == "config.properties"
    # As in TorchServe: the file that lies there does not name the store.
    with pytest.raises(Refused, match="Missing mandatory parameter --model-store"):
        said()


def test_the_last_snapshot_goes_before_what_lies_there(store: Path) -> None:
    folder = store.parent / "logs" / "config"
    folder.mkdir(parents=True)
    Path("config.properties").touch()
    assert unnamed_configuration(folder) == Path("config.properties")
    for name in ("20240101000000000-startup.cfg", "20240101000000001-shutdown.cfg", "mine.cfg"):
        (folder / name).touch()
    last = folder / "20240101000000001-shutdown.cfg"
    assert said("--model-store", "store")["TSD_TS_CONFIG"] == str(last)
    assert said("--model-store", "store", "--ncs")["TSD_TS_CONFIG"] == "config.properties"


def test_a_temporary_folder_has_to_be_there(store: Path) -> None:
    with pytest.raises(Refused, match="Invalid temp directory: /absent, please check TEMP"):
        said("--model-store", str(store), TEMP="/absent")


def test_words_are_those_given_or_those_of_the_process() -> None:
    assert ArgParser.extract_args(["--version"]).version


def test_the_verbs_exclude_each_other() -> None:
    with pytest.raises(SystemExit):
        ArgParser.ts_parser().parse_args(["--start", "--stop"])


def test_workers_options_are_understood_as_torchserve_spells_them() -> None:
    words = ["--sock-type", "unix", "--sock-name", "/s", "--async", "--metrics-config", "m.yaml"]
    got = ArgParser.model_service_worker_args().parse_args(words)
    assert (got.sock_type, got.sock_name, got.async_comm) == ("unix", "/s", True)
    assert got.metrics_config == "m.yaml"


def test_the_package_outside_of_workers_says_the_version_of_the_one_inside() -> None:
    root = Path(__file__).parents[3]
    texts = [root / "torchserve" / "ts" / "__init__.py", root / "tsd/worker/ts/__init__.py"]
    versions = {re.findall(r'__version__ = "(.+)"', text.read_text())[0] for text in texts}
    assert len(versions) == 1
