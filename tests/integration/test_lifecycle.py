"""Start, reload, restart: what was asked for comes back, and one daemon owns its directory."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import psutil
import pytest

from tests.support.archives import make_archive
from tests.support.daemon import RunningDaemon, running, wait_for

VERSIONED = """
    def handle(data, context):
        if data is None:
            return None
        return ["{version}"] * len(data)
"""


def make_version(folder: Path, version: str) -> Path:
    return make_archive(folder, "m", VERSIONED.format(version=version), version=version)


def test_the_desired_state_comes_back_after_a_restart(tmp_path: Path) -> None:
    with running(tmp_path) as daemon:
        for version in ("1.0", "2.0"):
            daemon.register(make_version(tmp_path, version))
        daemon.register(make_archive(tmp_path, "gone"))
        assert daemon.call("PUT", "/models/m/2.0/set-default").status == 200
        scaled = daemon.call("PUT", "/models/m/2.0?min_worker=3&max_worker=3&synchronous=true")
        assert scaled.json() == {"status": "Workers scaled to 3 for model: m, version: 2.0"}
        assert daemon.call("DELETE", "/models/gone").status == 200
        assert daemon.stop() == 0
    with running(tmp_path) as daemon:
        rows = daemon.call("GET", "/tsd/models").json()["models"]
        assert [(r["name"], r["version"], r["wanted_workers"], r["is_default"]) for r in rows] == [
            ("m", "1.0", 1, False),
            ("m", "2.0", 3, True),
        ]
        assert all(row["state"] == "ready" for row in rows)
        assert daemon.call("POST", "/predictions/m").body == b"2.0"
        assert daemon.call("POST", "/predictions/m/1.0").body == b"1.0"


def test_f34_a_killed_daemon_leaves_no_worker_and_its_models_come_back(tmp_path: Path) -> None:
    with running(tmp_path) as daemon:
        daemon.register(make_version(tmp_path, "1.0"))
        children = psutil.Process(daemon.pid).children(recursive=True)
        # The fork server and the worker; the one that is forked ahead of need comes and goes.
        assert len(children) >= 2
        daemon.process.kill()
        daemon.process.wait()
        _, alive = psutil.wait_procs(children, timeout=10)
        assert not alive
    with running(tmp_path) as daemon:
        assert daemon.call("POST", "/predictions/m").body == b"1.0"


def test_f28_a_damaged_state_file_is_set_aside_and_the_one_before_is_used(tmp_path: Path) -> None:
    with running(tmp_path) as daemon:
        daemon.register(make_version(tmp_path, "1.0"))
        daemon.register(make_version(tmp_path, "2.0"))
        daemon.stop()
    state = tmp_path / "state" / "desired-state.json"
    state.write_bytes(state.read_bytes()[:100])
    with running(tmp_path) as daemon:
        assert daemon.call("POST", "/predictions/m/1.0").body == b"1.0"
        assert daemon.call("POST", "/predictions/m/2.0").status == 404
        assert state.with_suffix(".bad").exists()
        assert "damaged" in daemon.log


def test_models_named_at_the_start_are_ready_when_the_daemon_says_ready(tmp_path: Path) -> None:
    archive = make_version(tmp_path, "1.0")
    store = tmp_path / "store"
    store.mkdir()
    make_version(tmp_path / "more", "2.0").rename(store / "stored.mar")
    models = f"named={archive},stored.mar"
    with running(tmp_path, "--model-store", str(store), "--models", models) as daemon:
        assert daemon.call("POST", "/predictions/named").body == b"1.0"
        assert daemon.call("POST", "/predictions/m").body == b"2.0"
        listed = daemon.call("GET", "/models").json()["models"]
        assert [row["modelName"] for row in listed] == ["m", "named"]
        daemon.stop()
    with running(tmp_path, "--model-store", str(store), "--models", "all") as daemon:
        assert [m["name"] for m in daemon.call("GET", "/tsd/models").json()["models"]] == ["m"]


def test_one_model_that_cannot_be_loaded_does_not_keep_the_others_from_serving(
    tmp_path: Path,
) -> None:
    good, bad = make_version(tmp_path, "1.0"), make_archive(tmp_path, "bad", "import nothing_here")
    with running(tmp_path, "--models", f"good={good},bad={bad},missing=nowhere.mar") as daemon:
        assert daemon.call("POST", "/predictions/good").body == b"1.0"
        assert daemon.model("bad")["state"] == "failed"
        assert any("failed: bad" in line for line in daemon.told)
        assert "Model not found at: nowhere.mar" in daemon.log


def test_sighup_reads_the_configuration_again(tmp_path: Path) -> None:
    settings = tmp_path / "tsd.toml"
    settings.write_text('[log]\nlevel = "info"\n')
    with running(tmp_path, "--config", str(settings)) as daemon:
        daemon.told.clear()
        settings.write_text('[http]\nmax_request_bytes = 1000\n[log]\nlevel = "warning"\n')
        daemon.process.send_signal(signal.SIGHUP)
        daemon.wait_until_told("READY=1")
        assert any("RELOADING=1" in line for line in daemon.told)
        assert daemon.call("POST", "/predictions/none", b"x" * 1001).status == 413
        daemon.told.clear()
        settings.write_text("[http]\nmax_request_bytes = -1\n")
        daemon.process.send_signal(signal.SIGHUP)
        daemon.wait_until_told("READY=1")
        assert "reload failed" in daemon.log
        assert daemon.call("POST", "/predictions/none", b"x" * 1001).status == 413


def test_every_process_says_what_it_is(shared_daemon: RunningDaemon) -> None:
    assert psutil.Process(shared_daemon.pid).cmdline() == ["tsd"]
    titles = [
        " ".join(process.cmdline())
        for process in psutil.Process(shared_daemon.pid).children(recursive=True)
    ]
    assert "tsd worker: echo/1.0 #1 cpu" in titles
    assert any(title.startswith("tsd fork server: /") for title in titles)


def test_a_killed_fork_server_is_replaced_and_workers_go_on(
    daemon: RunningDaemon, tmp_path: Path
) -> None:
    daemon.register(make_version(tmp_path, "1.0"))
    before = daemon.call("GET", "/tsd/status").json()["fork_server"]["pid"]
    os.kill(before, signal.SIGKILL)
    assert daemon.call("POST", "/predictions/m").body == b"1.0"

    def is_back() -> bool:
        now = daemon.call("GET", "/tsd/status").json()["fork_server"]
        return bool(now["pid"] != before and now["state"] == "ready")

    wait_for(is_back)
    scaled = daemon.call("PUT", "/models/m?min_worker=2&max_worker=2&synchronous=true")
    assert scaled.status == 200


@pytest.mark.parametrize("lines", ["99999999999999999999", "9" * 5000, "%C2%B2", "-5"])
def test_a_number_of_lines_that_is_none_still_has_its_answer(
    shared_daemon: RunningDaemon, lines: str
) -> None:
    assert shared_daemon.call("GET", f"/tsd/logs?lines={lines}").status == 200


CHATTY = """
    import sys
    def handle(data, context):
        if data is None:
            return None
        print("said on stdout")
        sys.stderr.write("said on stderr\\n" + "x" * 20000 + "\\n")
        return ["ok"] * len(data)
"""


def test_what_a_handler_prints_is_logged_with_model_version_and_worker(
    daemon: RunningDaemon, tmp_path: Path
) -> None:
    daemon.register(make_archive(tmp_path, "chatty", CHATTY))
    daemon.call("POST", "/predictions/chatty")
    records = daemon.call("GET", "/tsd/logs?model=chatty").body.decode()
    wait_for(lambda: "said on stderr" in daemon.log)
    lines = [line for line in daemon.log.splitlines() if "said on" in line]
    assert all("model=chatty version=1.0 worker=1" in line for line in lines)
    assert {line.split()[1] for line in lines} == {"info", "warning"}
    assert max(map(len, daemon.log.splitlines())) < 10_000
    assert '"model": "chatty"' in records
