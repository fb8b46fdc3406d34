"""The command `torchserve`: starts, says so, stops, and leaves nothing behind."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.archives import make_archive
from tests.support.daemon import wait_for
from tests.support.torchserve import ANY_PORT, COMMAND, TorchServe, is_alive, torchserve

CONFIG = ("--ts-config", "any_port.properties", "--ncs")


@pytest.fixture
def server(tmp_path: Path) -> Iterator[TorchServe]:
    with torchserve(tmp_path) as own:
        make_archive(tmp_path).rename(own.store / "echo.mar")
        yield own


def test_it_starts_in_the_background_refuses_a_second_start_and_stops(server: TorchServe) -> None:
    pid = server.start(*CONFIG, "--models", "echo=echo.mar", "--disable-token-auth")
    assert server.run("--start", "--model-store", "store", *CONFIG) == 1
    assert server.printed.endswith(
        "TorchServe is already running, please use torchserve --stop to stop TorchServe.\n"
    )
    assert json.loads(server.call("GET", "/models")[1])["models"][0]["modelName"] == "echo"
    assert server.run("--stop", "--foreground") == 0
    assert not is_alive(pid)
    assert list(server.temporary.iterdir()) == []
    assert server.run("--stop") == 0
    assert server.printed.endswith("TorchServe is not currently running.\n")


def test_stopping_need_not_wait_and_takes_the_keys_away(server: TorchServe) -> None:
    pid = server.start(*CONFIG)
    keys = server.folder / "key_file.json"
    keys.write_text("{}")
    assert server.run("--stop") == 0
    assert "TorchServe has stopped.\n" in server.printed
    assert not keys.exists()
    assert not server.pid_file.exists()
    wait_for(lambda: not is_alive(pid))


def test_in_the_foreground_it_ends_with_the_server_and_when_it_is_asked_to(
    server: TorchServe,
) -> None:
    for number in (signal.SIGTERM, signal.SIGINT):
        with server.output.open("wb") as output:
            command = subprocess.Popen(
                [*COMMAND, "--start", "--foreground", "--model-store", "store", *CONFIG],
                stdout=output,
                cwd=server.folder,
                env=server.environment,
            )
        wait_for(lambda: "Model server started." in server.printed)
        pid = server.pid
        assert command.poll() is None
        command.send_signal(number)
        assert command.wait(60) == 0
        assert not is_alive(pid)
        assert list(server.temporary.iterdir()) == []


def test_a_killed_server_is_no_hindrance(server: TorchServe) -> None:
    pid = server.start(*CONFIG)
    os.kill(pid, signal.SIGKILL)
    wait_for(lambda: not is_alive(pid))
    own_folder = server.temporary / f".model_server.{pid}"
    assert own_folder.exists()
    assert server.start(*CONFIG) != pid
    assert "Removing orphan pid file." in server.printed
    assert not own_folder.exists()


def test_a_start_that_fails_says_why_and_leaves_nothing(server: TorchServe) -> None:
    (server.folder / "bad.properties").write_text("inference_address=$$NO_SUCH_VARIABLE$$")
    words = ("--start", "--foreground", "--model-store", "store", "--ncs", "--ts-config")
    assert server.run(*words, "bad.properties") == 1
    assert "Invalid configuration: Invalid Environment Variable NO_SUCH_VARIABLE" in server.printed
    (server.folder / "bad.properties").write_text("job_queue_size=0")
    assert server.run(*words, "bad.properties") != 0
    assert "job_queue_size" in server.printed
    assert list(server.temporary.iterdir()) == []


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--model-store", "absent"], "--model-store directory not found: absent"),
        ([], "Missing mandatory parameter --model-store"),
        (["--ts-config", "absent"], "--ts-config file not found: absent"),
        (
            ["--model-store", "store", "--log-config", "absent"],
            "--log-config file not found: {folder}/absent",
        ),
        (
            ["--model-store", "store", "--workflow-store", "absent"],
            "--workflow-store directory not found: {folder}/absent",
        ),
        (["--model-store", "store", "--models", "w=w.war"], "Workflows (.war) are not served"),
    ],
)
def test_what_is_missing_is_said_as_torchserve_says_it(
    server: TorchServe, words: list[str], said: str
) -> None:
    assert server.run("--start", *words) == 1
    assert said.format(folder=server.folder) in server.printed
    assert not server.pid_file.exists()


def test_options_without_effect_are_accepted_with_a_warning(server: TorchServe) -> None:
    (server.folder / "log4j2.xml").touch()
    ignored = ("--log-config", "log4j2.xml", "--workflow-store", "store", "--ppath", "plugins")
    server.start(*CONFIG, *ignored)
    for option in ("--log-config", "--workflow-store", "--plugins-path"):
        assert f"Warning: {option} has no effect: " in server.printed


def test_the_version_is_that_of_the_interface(server: TorchServe) -> None:
    assert server.run("--version") == 0
    assert server.printed == "TorchServe Version is 0.12.0\n"


def test_variables_name_the_configuration_and_the_folder_of_logs(tmp_path: Path) -> None:
    variables = {"TS_CONFIG_FILE": "any_port.properties", "LOG_LOCATION": "elsewhere"}
    with torchserve(tmp_path, **variables) as server:
        server.start("--ts-config", "absent.properties")
        (snapshot,) = (tmp_path / "elsewhere" / "config").iterdir()
        assert snapshot.name.endswith("-startup.cfg")


def test_a_store_may_be_named_by_the_configuration_alone(server: TorchServe) -> None:
    (server.folder / "own.properties").write_text(f"{ANY_PORT}\nmodel_store=$$HOME_OF_IT$$/store\n")
    server.variables["HOME_OF_IT"] = str(server.folder)
    server.start_without_store("--ncs", "--ts-config", "own.properties")


LAUNCH = """
import ts
from ts import launcher

lines = launcher.start(
    model_store="store", snapshot_file="any_port.properties", no_config_snapshots=True,
    models="echo.mar", disable_token=True, enable_model_api=True,
)
print("UP", ts.__version__, flush=True)
launcher.stop()
last = ""
while (line := lines.get(timeout=60)) is not None:
    last = line
print("LAST", last)
"""


def test_tests_start_it_from_python_and_follow_what_it_prints(server: TorchServe) -> None:
    answer = subprocess.run(
        [sys.executable, "-c", LAUNCH],
        cwd=server.folder,
        env=server.environment,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert answer.returncode == 0, answer.stderr
    before, _, after = answer.stdout.partition("UP 0.12.0")
    assert "Model server started." in before
    assert "drained" in after.partition("LAST")[2]
    assert not server.pid_file.exists()


def test_the_server_can_be_started_as_a_module(server: TorchServe) -> None:
    words = ["-m", "ts.model_server", "--version"]
    said = subprocess.run([sys.executable, *words], capture_output=True, text=True, check=True)
    assert said.stdout == "TorchServe Version is 0.12.0\n"
