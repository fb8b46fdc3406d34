"""Runtimes: interpreters beside the daemon's own, checked, named by models, made and removed."""

from __future__ import annotations

import contextlib
import json
import socket
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from tests.support.archives import make_archive
from tests.support.daemon import Answer, RunningDaemon, running, wait_for
from tests.support.runtimes import environment, make_wheels, packages_of

PREFIX = """
    import sys

    def handle(data, context):
        return None if data is None else [sys.prefix for _ in data]
"""


@pytest.fixture(scope="session")
def second(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An environment that has torch."""
    return environment(tmp_path_factory.mktemp("runtimes") / "second")


@pytest.fixture(scope="session")
def bare(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An environment that can run the daemon, and has no torch."""
    folder = tmp_path_factory.mktemp("runtimes") / "bare"
    return environment(folder, hidden={"torch"}, has_project=True)


def ask(daemon: RunningDaemon, method: str, where: str, **body: object) -> Answer:
    return daemon.call(method, f"/tsd/runtimes{where}", json.dumps(body).encode())


def add(daemon: RunningDaemon, path: Path, **more: object) -> Answer:
    return ask(daemon, "POST", "", path=str(path), **more)


def runtimes(daemon: RunningDaemon) -> dict[str, Any]:
    rows = daemon.call("GET", "/tsd/runtimes").json()["runtimes"]
    return {row["name"]: row for row in rows}


def tsctl(daemon: RunningDaemon, *words: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "tsctl", "--socket", str(daemon.control), *words]
    return subprocess.run(command, check=False, capture_output=True, text=True)


def prefix(daemon: RunningDaemon, model: str) -> str:
    """Where the interpreter of the model's worker lives."""
    return daemon.call("POST", f"/predictions/{model}", b"x").body.decode()


def test_a_daemon_without_a_runtime_serves_its_operators_and_says_what_to_do(
    tmp_path: Path, bare: Path, second: Path
) -> None:
    archive = make_archive(tmp_path, "m", PREFIX)
    with running(tmp_path, python=bare / "bin" / "python") as daemon:
        assert runtimes(daemon) == {}
        assert "tsctl runtime add" in tsctl(daemon, "status").stdout
        refused = daemon.call("POST", f"/models?url={archive}")
        assert (refused.status, refused.json()["message"]) == (503, "There is no runtime.")
        assert "tsctl runtime create" in refused.json()["fix"]
        assert not list((daemon.state_dir / "models").glob("*"))
        demo = tsctl(daemon, "run", "demo")
        assert demo.returncode == 5
        assert "tsctl runtime add PATH" in demo.stderr
        added = tsctl(daemon, "runtime", "add", str(second))
        assert added.returncode == 0, added.stderr
        assert "torch" in added.stdout
        daemon.register(archive, initial_workers=1)
        assert prefix(daemon, "m") == str(second)


def test_models_that_were_registered_begin_when_a_runtime_comes(
    tmp_path: Path, bare: Path, second: Path
) -> None:
    with running(tmp_path) as daemon:
        daemon.register(make_archive(tmp_path, "m", PREFIX), initial_workers=1)
    with running(tmp_path, python=bare / "bin" / "python") as daemon:
        model = daemon.model("m")
        assert model["state"] == "failed"
        assert "There is no runtime" in model["last_error"]["cause"]
        assert daemon.call("POST", "/predictions/m", b"x").status == 503
        assert add(daemon, second).status == 200
        wait_for(lambda: daemon.model("m")["state"] == "ready")
        assert prefix(daemon, "m") == str(second)
        assert daemon.call("GET", "/v2/health/ready").status == 200


@pytest.mark.parametrize("said_by", ["request", "model-config.yaml"])
def test_a_model_has_the_runtime_that_it_names(tmp_path: Path, second: Path, said_by: str) -> None:
    is_asked = said_by == "request"
    config = "minWorkers: 1\nmaxWorkers: 1\n" + ("" if is_asked else "runtime: second\n")
    archive = make_archive(tmp_path, "named", PREFIX, config)
    other = make_archive(tmp_path, "other", PREFIX)
    with running(tmp_path, "--python", sys.executable) as daemon:
        asked = "&runtime=second" if is_asked else ""
        early = daemon.call("POST", f"/models?url={archive}{asked}")
        assert early.status == 400
        assert early.json()["message"] == "Invalid RuntimeType value: second"
        assert add(daemon, second).status == 200
        assert runtimes(daemon)["second"]["state"] == "idle"
        daemon.register(archive, **({"runtime": "second"} if is_asked else {}))
        daemon.register(other, initial_workers=1, runtime="python3")
        assert prefix(daemon, "named") == str(second)
        assert prefix(daemon, "other") == sys.prefix
        assert daemon.model("named")["origins"]["runtime"] == said_by
        assert "second" in tsctl(daemon, "list").stdout
        assert daemon.call("GET", "/models/named").json()[0]["runtime"] == "second"
    with running(tmp_path, "--python", sys.executable) as daemon:
        assert prefix(daemon, "named") == str(second)


def test_a_runtime_in_use_stays_and_one_that_is_not_costs_no_process(
    tmp_path: Path, second: Path
) -> None:
    with running(tmp_path, "--python", sys.executable) as daemon:
        assert add(daemon, second).status == 200
        daemon.register(make_archive(tmp_path), initial_workers=1, runtime="second")
        refused = ask(daemon, "DELETE", "/second")
        assert refused.status == 409
        assert "echo/1.0" in refused.json()["why"]
        assert runtimes(daemon)["second"]["models"] == ["echo/1.0"]
        assert daemon.call("DELETE", "/models/echo").status == 200
        assert runtimes(daemon)["second"]["state"] == "idle"
        assert ask(daemon, "DELETE", "/second").status == 200
        assert list(runtimes(daemon)) == ["configured"]
        # It was not the daemon's.
        assert second.exists()


def test_the_default_is_for_models_that_are_registered_from_then_on(
    tmp_path: Path, second: Path
) -> None:
    with running(tmp_path) as daemon:
        daemon.register(make_archive(tmp_path, "before", PREFIX), initial_workers=1)
        assert add(daemon, second, name="new").status == 200
        assert runtimes(daemon)["new"]["default"]
        daemon.register(make_archive(tmp_path, "after", PREFIX), initial_workers=1)
        scaled = daemon.call("PUT", "/models/before?min_worker=2&max_worker=2&synchronous=true")
        assert scaled.status == 200
        assert {prefix(daemon, "before") for _ in range(8)} == {sys.prefix}
        assert prefix(daemon, "after") == str(second)
        for name in ("own", "gone"):
            assert ask(daemon, "PUT", f"/{name}/set-default").status in (400, 409)


@pytest.fixture
def hanging(tmp_path: Path) -> Path:
    """An environment whose torch never ends to be imported."""
    folder = environment(tmp_path / "hanging", hidden={"torch"})
    (packages_of(folder) / "torch.py").write_text(
        "import time\nprint('slow', flush=True)\ntime.sleep(600)\n"
    )
    return folder


def test_what_cannot_run_workers_is_refused_with_its_reason(
    tmp_path: Path, bare: Path, hanging: Path
) -> None:
    config, text = tmp_path / "tsd.toml", tmp_path / "text"
    text.touch()
    config.write_text("[runtimes]\ncheck_timeout_s = 3\n")
    broken = environment(tmp_path / "broken", hidden={"torch"})
    (packages_of(broken) / "torch.py").write_text("raise OSError('libc10.so: no such file')\n")
    with running(tmp_path, "--config", str(config)) as daemon:
        for path, why in (
            (bare, "has no torch"),
            (broken, "libc10.so"),
            (hanging, "did not import torch in 3 s: slow"),
            (Path("/bin/ls"), "invalid option -- 'P'"),
            (Path("/nowhere"), "No such file"),
            (text, "not executable"),
        ):
            refused = add(daemon, path, name="x")
            assert refused.status == 400, path
            assert why in refused.json()["why"], path
            assert refused.json()["fix"], path
        assert add(daemon, Path("relative")).status == 400
        assert add(daemon, bare, name="python3").status == 400
        assert add(daemon, bare, name="../x").status == 400
        assert ask(daemon, "POST", "", paht="/x").status == 400
        assert list(runtimes(daemon)) == ["own"]
        assert "Traceback" not in daemon.log


def test_an_environment_is_made_shown_and_deleted(tmp_path: Path) -> None:
    wheels = make_wheels(tmp_path / "wheels")
    with running(tmp_path) as daemon:
        made = tsctl(daemon, "runtime", "create", "cpu", "--wheels", str(wheels))
        assert made.returncode == 0, made.stderr
        assert "Successfully installed" in made.stderr
        folder = daemon.state_dir / "runtimes" / "cpu"
        assert runtimes(daemon)["cpu"]["made"]
        assert not (folder / "unfinished").exists()
        assert tsctl(daemon, "runtime", "create", "cpu", "--wheels", str(wheels)).returncode == 3
        daemon.register(make_archive(tmp_path, "m", PREFIX), initial_workers=1, runtime="cpu")
        assert prefix(daemon, "m") == str(folder)
        assert daemon.call("DELETE", "/models/m").status == 200
        assert tsctl(daemon, "runtime", "remove", "cpu").returncode == 0
        assert not folder.exists()


def test_one_that_cannot_be_made_leaves_nothing(tmp_path: Path) -> None:
    wheels = make_wheels(tmp_path / "wheels")
    with running(tmp_path) as daemon:
        gone = tsctl(daemon, "runtime", "create", "cpu", "--wheels", "/nowhere", "--name", "a")
        assert (gone.returncode, "No matching distribution" in gone.stderr) == (3, True)
        # What is there has no CUDA, and was asked for by name.
        other = tsctl(daemon, "runtime", "create", "cu126", "--wheels", str(wheels))
        assert (other.returncode, "not a build for CUDA 12.6" in other.stderr) == (3, True)
        assert tsctl(daemon, "runtime", "create", "tpu").returncode == 3
        assert list(runtimes(daemon)) == ["own"]
        assert not list((daemon.state_dir / "runtimes").glob("*"))


def test_when_nobody_waits_for_it_any_more_it_is_given_up(tmp_path: Path) -> None:
    # Its interpreter never gets to its program.
    hanging = environment(tmp_path / "hanging")
    (packages_of(hanging) / "sitecustomize.py").write_text("import time\ntime.sleep(600)\n")
    body = {"kind": "cpu", "name": "x", "python": str(hanging / "bin" / "python")}
    with running(tmp_path) as daemon:
        folder = daemon.state_dir / "runtimes" / "x"
        with asking(daemon, body) as connection:
            assert b'"creating"' in read_until(connection, b"creating")
            wait_for(folder.exists)
            busy = ask(daemon, "POST", "/create", **body)
            assert busy.json()["message"] == "Another change to runtime x is under way."
        wait_for(lambda: not folder.exists())
        assert "x" not in runtimes(daemon)


def test_a_daemon_that_is_stopped_does_not_wait_for_it(tmp_path: Path) -> None:
    hanging = environment(tmp_path / "hanging")
    (packages_of(hanging) / "sitecustomize.py").write_text("import time\ntime.sleep(600)\n")
    body = {"kind": "cpu", "name": "x", "python": str(hanging / "bin" / "python")}
    with running(tmp_path) as daemon, asking(daemon, body) as connection:
        read_until(connection, b"creating")
        daemon.process.terminate()
        assert b"the daemon was stopped" in read_until(connection, b"fix")
        assert daemon.stop() == 0
        assert not (daemon.state_dir / "runtimes" / "x").exists()


@contextlib.contextmanager
def asking(daemon: RunningDaemon, body: Mapping[str, object]) -> Iterator[socket.socket]:
    """A connection that has asked for an environment."""
    content = json.dumps(body).encode()
    head = f"POST /tsd/runtimes/create HTTP/1.1\r\nHost: x\r\nContent-Length: {len(content)}"
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(60)
        connection.connect(str(daemon.control))
        connection.sendall(head.encode() + b"\r\n\r\n" + content)
        yield connection


def read_until(connection: socket.socket, word: bytes) -> bytes:
    got = b""
    while word not in got:
        part = connection.recv(4096)
        assert part, got
        got += part
    return got


def test_a_checked_runtime_is_checked_anew(tmp_path: Path, second: Path) -> None:
    with running(tmp_path) as daemon:
        assert add(daemon, second).status == 200
        checked = ask(daemon, "POST", "/second/check").json()["runtime"]
        assert checked["versions"]["torch"]
        assert checked["abi"].startswith("cpython-")
        assert ask(daemon, "POST", "/own/check").status == 200
        assert ask(daemon, "POST", "/gone/check").status == 400


def test_the_demo_answers_at_once(tmp_path: Path) -> None:
    with running(tmp_path) as daemon:
        ran = tsctl(daemon, "run", "demo", "--json")
        assert ran.returncode == 0, ran.stderr
        assert json.loads(ran.stdout)["answer"]["digit"] == 3
        again = tsctl(daemon, "run", "demo")
        assert '"digit": 3' in again.stdout
        assert tsctl(daemon, "run", "nothing").returncode == 4
        assert tsctl(daemon, "run", "demo", "/nowhere.png").returncode == 1


def test_an_archive_is_registered_and_asked(tmp_path: Path) -> None:
    archive = make_archive(tmp_path)
    sent = tmp_path / "sent.txt"
    sent.write_text("hello")
    with running(tmp_path) as daemon:
        assert tsctl(daemon, "run", str(archive), str(sent)).stdout.endswith("hello\n")
        assert tsctl(daemon, "run", "echo", str(sent)).stdout.endswith("hello\n")
        assert tsctl(daemon, "run", "echo").returncode == 2
