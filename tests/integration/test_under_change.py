"""Changes that meet: each is whole or refused, and what runs is what is on disk."""

from __future__ import annotations

import json
import os
import signal
import socket
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psutil
import pytest

from tests.support.archives import make_archive
from tests.support.daemon import Answer, RunningDaemon, launched, running, wait_for

SLEEPS_AT_LOAD = """
    import time
    time.sleep({seconds})
    def handle(data, context):
        return data and [row["body"] for row in data]
"""

SLEEPS = """
    import time
    def handle(data, context):
        if data is None:
            return None
        time.sleep(float(bytes(data[0]["body"])))
        return [row["body"] for row in data]
"""


def settings(folder: Path, text: str) -> tuple[str, str]:
    (folder / "tsd.toml").write_text(text)
    return ("--config", str(folder / "tsd.toml"))


def on_disk(daemon: RunningDaemon) -> dict[str, list[str]]:
    state = json.loads((daemon.state_dir / "desired-state.json").read_bytes())
    return {name: sorted(model["versions"]) for name, model in state["models"].items()}


def test_a_start_that_takes_too_long_is_ended(daemon: RunningDaemon, tmp_path: Path) -> None:
    config = "minWorkers: 1\nmaxWorkers: 1\nstartupTimeout: 1\n"
    archive = make_archive(tmp_path, "slow", SLEEPS_AT_LOAD.format(seconds=600), config)
    answer = daemon.call("POST", f"/models?url={archive}")
    assert answer.status == 500
    assert "did not get ready in time" in daemon.log


def test_a_second_change_of_a_model_is_refused_while_the_first_is_under_way(
    daemon: RunningDaemon, tmp_path: Path
) -> None:
    config = "minWorkers: 1\nmaxWorkers: 1\n"
    daemon.register(make_archive(tmp_path, "m", SLEEPS, config))
    daemon.register(make_archive(tmp_path, "m", SLEEPS, config, version="2.0"))
    with ThreadPoolExecutor() as pool:
        running_request = pool.submit(daemon.call, "POST", "/predictions/m/2.0", b"1.5")
        wait_for(lambda: daemon.model("m/2.0")["workers"][0]["state"] == "busy")
        removal = pool.submit(daemon.call, "DELETE", "/models/m/2.0")
        wait_for(lambda: daemon.model("m/2.0")["state"] == "draining")
        for method, path in (
            ("PUT", "/models/m/2.0/set-default"),
            ("PUT", "/models/m/2.0?min_worker=3"),
            ("DELETE", "/models/m/2.0"),
        ):
            refused = daemon.call(method, path)
            assert (refused.status, refused.json()["type"]) == (409, "ConflictStatusException")
        assert running_request.result().body == b"1.5"
        assert removal.result().status == 200
    assert daemon.call("GET", "/ping").json() == {"status": "Healthy"}
    assert daemon.call("GET", "/models/m").json()[0]["modelVersion"] == "1.0"
    assert on_disk(daemon) == {"m": ["1.0"]}


def test_f25_changes_that_race_leave_what_runs_as_on_disk(
    daemon: RunningDaemon, tmp_path: Path
) -> None:
    archives = [make_archive(tmp_path, name) for name in ("a", "b")]
    allowed = {200, 202, 404, 409}

    def hammer(number: int) -> set[int]:
        name = "ab"[number % 2]
        statuses = set()
        for _ in range(8):
            for method, path in (
                ("POST", f"/models?url={archives[number % 2]}"),
                ("PUT", f"/models/{name}?min_worker=2&max_worker=2"),
                ("POST", f"/predictions/{name}"),
                ("DELETE", f"/models/{name}"),
            ):
                statuses.add(daemon.call(method, path).status)
        return statuses

    with ThreadPoolExecutor(4) as pool:
        statuses = set[int]().union(*pool.map(hammer, range(4)))
    assert statuses - {503} <= allowed
    listed = daemon.call("GET", "/models").json()["models"]
    assert sorted(on_disk(daemon)) == [row["modelName"] for row in listed]
    for row in listed:
        assert daemon.call("DELETE", f"/models/{row['modelName']}").status == 200
    # The fork server, and the worker that it has forked ahead of need.
    wait_for(lambda: len(psutil.Process(daemon.pid).children(recursive=True)) == 2)


def test_f26_a_change_that_cannot_be_saved_is_not_made(
    daemon: RunningDaemon, tmp_path: Path
) -> None:
    for version in ("1.0", "2.0"):
        daemon.register(make_archive(tmp_path, version=version))
    in_the_way = daemon.state_dir / "desired-state.new"
    in_the_way.mkdir()
    calls = [
        ("PUT", "/models/echo/2.0/set-default"),
        ("PUT", "/models/echo?min_worker=2&max_worker=2"),
        ("DELETE", "/models/echo/2.0"),
        ("POST", f"/models?url={make_archive(tmp_path, 'other')}"),
    ]
    for method, path in calls:
        assert daemon.call(method, path).status == 507, path
    rows = daemon.call("GET", "/tsd/models").json()["models"]
    assert [(r["name"], r["version"], r["is_default"], r["wanted_workers"]) for r in rows] == [
        ("echo", "1.0", True, 1),
        ("echo", "2.0", False, 1),
    ]
    assert daemon.call("POST", "/predictions/echo/2.0", b"x").body == b"x"
    in_the_way.rmdir()
    assert daemon.call("PUT", "/models/echo/2.0/set-default").status == 200


def test_a_state_with_options_of_another_release_does_not_stop_the_start(tmp_path: Path) -> None:
    with running(tmp_path) as daemon:
        daemon.register(make_archive(tmp_path, "odd"))
        daemon.register(make_archive(tmp_path))
        daemon.stop()
    path = tmp_path / "state" / "desired-state.json"
    state = json.loads(path.read_bytes())
    state["models"]["odd"]["versions"]["1.0"]["options"] = {"from_the_future": 1}
    path.write_text(json.dumps(state))
    with running(tmp_path) as daemon:
        assert daemon.call("POST", "/predictions/echo", b"x").body == b"x"
        assert "model not restored" in daemon.log
        assert daemon.call("DELETE", "/models/odd").status == 200
        assert on_disk(daemon) == {"echo": ["1.0"]}


def test_one_state_directory_has_one_daemon(daemon: RunningDaemon, tmp_path: Path) -> None:
    (tmp_path / "second").mkdir()
    with launched(tmp_path / "second", "--state-dir", str(daemon.state_dir)) as second:
        assert second.process.wait(30) == 1
    assert f"another tsd, process {daemon.pid}, owns {daemon.state_dir}" in second.log


def test_a_state_directory_that_cannot_be_made_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with launched(tmp_path, "--state-dir", str(tmp_path / "file" / "below")) as daemon:
        assert daemon.process.wait(30) == 1
    assert "Traceback" not in daemon.log


def test_a_reload_during_the_start_does_not_say_ready(tmp_path: Path) -> None:
    archive = make_archive(tmp_path, "slow", SLEEPS_AT_LOAD.format(seconds=3))
    config = settings(tmp_path, "[log]\nlevel = 'info'\n")
    with launched(tmp_path, *config, "--models", str(archive)) as daemon:
        daemon.wait_until_told("STATUS=0 of 1 models ready")
        daemon.process.send_signal(signal.SIGHUP)
        daemon.wait_until_told("READY=1")
        assert daemon.model("slow")["state"] == "ready"


def test_a_reload_keeps_what_only_a_restart_can_change(tmp_path: Path) -> None:
    config = settings(tmp_path, "")
    with running(tmp_path, *config) as daemon:
        daemon.told.clear()
        settings(tmp_path, 'python = "/nowhere/python"\n[serving]\nmax_workers = 3\n')
        daemon.process.send_signal(signal.SIGHUP)
        daemon.wait_until_told("READY=1")
        assert "these need a restart: python" in daemon.log
        daemon.register(make_archive(tmp_path), initial_workers=1)
        assert daemon.call("PUT", "/models/echo?min_worker=4").status == 400


@pytest.fixture
def shaky_python(tmp_path: Path) -> Path:
    """An interpreter that is there only while the file `works` is."""
    script = tmp_path / "python"
    script.write_text(
        f'#!/bin/sh\n[ -e "{tmp_path}/works" ] || exit 1\nexec {sys.executable} "$@"\n'
    )
    script.chmod(0o755)
    return script


def test_a_runtime_that_comes_back_is_used_again(tmp_path: Path, shaky_python: Path) -> None:
    works = tmp_path / "works"
    works.touch()
    with running(tmp_path, "--python", str(shaky_python)) as daemon:
        daemon.register(make_archive(tmp_path), initial_workers=1)
        pid = daemon.call("GET", "/tsd/status").json()["fork_server"]["pid"]
        works.unlink()
        os.kill(pid, signal.SIGKILL)
        wait_for(lambda: "the fork server ended with status 1" in daemon.log)
        works.touch()
        wait_for(lambda: fork_server_state(daemon) == "ready")
        scaled = daemon.call("PUT", "/models/echo?min_worker=2&max_worker=2&synchronous=true")
        assert scaled.status == 200


def fork_server_state(daemon: RunningDaemon) -> str:
    return str(daemon.call("GET", "/tsd/status").json()["fork_server"]["state"])


def test_without_a_runtime_models_can_be_taken_away_and_the_daemon_stops(
    tmp_path: Path, shaky_python: Path
) -> None:
    archive = make_archive(tmp_path)
    with running(tmp_path, "--python", str(shaky_python)) as daemon:
        assert daemon.call("POST", f"/models?url={archive}&synchronous=false").status == 202
        assert daemon.call("DELETE", "/models/echo").status == 200
        assert daemon.call("POST", f"/models?url={archive}&synchronous=false").status == 202
        assert daemon.stop() == 0


def test_workers_come_one_by_one_whatever_their_number_and_their_settings(
    daemon: RunningDaemon, tmp_path: Path
) -> None:
    config = f"minWorkers: 1\nmaxWorkers: 20\nhandler:\n  text: {'x' * 40_000}\n"
    daemon.register(make_archive(tmp_path, config=config))
    scaled = daemon.call("PUT", "/models/echo?min_worker=12&max_worker=12&synchronous=true")
    assert scaled.status == 200, scaled.body
    assert len(daemon.worker_pids("echo")) == 12


def test_a_quick_request_does_not_wait_behind_a_slow_one_beside_a_free_worker(
    daemon: RunningDaemon, tmp_path: Path
) -> None:
    config = "minWorkers: 2\nmaxWorkers: 2\n"
    daemon.register(make_archive(tmp_path, "m", SLEEPS, config))
    with ThreadPoolExecutor() as pool:
        slow = pool.submit(daemon.call, "POST", "/predictions/m", b"20")
        wait_for(lambda: "busy" in [row["state"] for row in daemon.model("m")["workers"]])
        quick = [pool.submit(daemon.call, "POST", "/predictions/m", b"0.2") for _ in range(3)]
        assert [future.result().body for future in quick] == [b"0.2"] * 3
        assert not slow.done(), slow.result()
        for pid in daemon.worker_pids("m"):
            os.kill(pid, signal.SIGKILL)
        daemon.process.kill()


def test_a_stop_does_not_wait_for_a_job_beyond_the_drain_time(tmp_path: Path) -> None:
    config = settings(tmp_path, "[serving]\ndrain_s = 1\nstop_s = 1\n")
    with running(tmp_path, *config) as daemon:
        daemon.register(make_archive(tmp_path, "m", SLEEPS), initial_workers=1)
        answers: list[Answer | Exception] = []

        def ask() -> None:
            try:
                answers.append(daemon.call("POST", "/predictions/m", b"3600", door=http_sock))
            except OSError as error:
                answers.append(error)

        http_sock = daemon.runtime_dir / "http.sock"
        asking = threading.Thread(target=ask)
        asking.start()
        wait_for(lambda: daemon.model("m")["workers"][0]["state"] == "busy")
        assert daemon.stop() == 0
        asking.join()
        assert answers


BIG = """
    def handle(data, context):
        if data is None:
            return None
        return [bytes(row["body"]) * 750_000 for row in data]
"""


def test_large_answers_of_many_batches_find_room_one_after_the_other(tmp_path: Path) -> None:
    config = settings(tmp_path, "[serving]\nanswers_bytes = 8_388_608\n")
    with running(tmp_path, *config) as daemon:
        model = "minWorkers: 1\nmaxWorkers: 1\nbatchSize: 2\nresponseTimeout: 20\n"
        daemon.register(make_archive(tmp_path, "big", BIG, model))

        def ask(number: int) -> bool:
            body = b"%04d" % number
            return daemon.call("POST", "/predictions/big", body).body == body * 750_000

        with ThreadPoolExecutor(8) as pool:
            assert all(pool.map(ask, range(32)))
        assert daemon.model("big")["restarts"] == 0
        too_large = daemon.call("POST", "/predictions/big", b"x" * 20)
        assert too_large.status == 503
        assert "larger than the answer segment" in too_large.json()["message"]


def test_jobs_past_their_deadline_leave_their_place_in_the_queue(
    daemon: RunningDaemon, tmp_path: Path
) -> None:
    config = "minWorkers: 1\nmaxWorkers: 1\njobQueueSize: 3\nclientTimeoutInMills: 500\n"
    daemon.register(make_archive(tmp_path, "m", SLEEPS, config))
    with ThreadPoolExecutor() as pool:
        slow = pool.submit(daemon.call, "POST", "/predictions/m", b"4")
        wait_for(lambda: daemon.model("m")["workers"][0]["state"] == "busy")
        late = [pool.submit(daemon.call, "POST", "/predictions/m", b"0") for _ in range(3)]
        assert [future.result().status for future in [slow, *late]] == [504] * 4
        assert daemon.model("m")["queue"]["waiting"] == 0


LEAVES_CHILDREN = """
    import subprocess
    def handle(data, context):
        if data is None:
            return None
        subprocess.Popen(["sleep", "0.05"])
        return ["ok"] * len(data)
"""


def test_processes_that_handlers_leave_behind_are_reaped(
    daemon: RunningDaemon, tmp_path: Path
) -> None:
    daemon.register(make_archive(tmp_path, "messy", LEAVES_CHILDREN), initial_workers=1)
    for _ in range(10):
        assert daemon.call("POST", "/predictions/messy").status == 200
    assert daemon.call("DELETE", "/models/messy").status == 200
    # The fork server, and the worker that it has forked ahead of need.
    wait_for(lambda: len(psutil.Process(daemon.pid).children(recursive=True)) == 2)


def test_a_path_with_nul_bytes_harms_nobody(shared_daemon: RunningDaemon) -> None:
    pids = shared_daemon.worker_pids("echo")
    for _ in range(3):
        assert shared_daemon.call("POST", "/predictions/echo/1.0/x%00y", b"x").status == 400
    assert shared_daemon.worker_pids("echo") == pids


def test_a_name_that_no_file_can_have_is_not_found(shared_daemon: RunningDaemon) -> None:
    accept = {"Accept": "application/x-ndjson"}
    for url in ("/" + "x" * 300, "x" * 5_000):
        for headers in ({}, accept):
            answer = shared_daemon.call("POST", f"/models?url={url}", headers=headers)
            assert b"Model not found" in answer.body


def test_a_stop_ends_a_worker_that_is_already_stopping(tmp_path: Path) -> None:
    config = settings(tmp_path, "[serving]\ndrain_s = 1\nstop_s = 1\n")
    with running(tmp_path, *config) as daemon:
        daemon.register(make_archive(tmp_path, "m", SLEEPS), initial_workers=1)
        with socket.socket(socket.AF_UNIX) as client:
            client.connect(str(daemon.control))
            head = b"POST /predictions/m HTTP/1.1\r\nHost: h\r\nContent-Length: 4\r\n\r\n"
            client.sendall(head + b"3600")
            wait_for(lambda: daemon.model("m")["workers"][0]["state"] == "busy")
            assert daemon.call("PUT", "/models/m?min_worker=0&max_worker=0").status == 202
            assert daemon.model("m")["workers"][0]["state"] == "stopping"
            assert daemon.stop() == 0


def test_workers_that_were_never_forked_leave_nothing(tmp_path: Path, shaky_python: Path) -> None:
    archive = make_archive(tmp_path)

    def segments(daemon: RunningDaemon) -> int:
        folder = Path(f"/proc/{daemon.pid}/fd")
        return sum("memfd:" in str(path.readlink()) for path in list(folder.iterdir()))

    with running(tmp_path, "--python", str(shaky_python)) as daemon:
        for _ in range(5):
            query = f"url={archive}&synchronous=false&initial_workers=4"
            assert daemon.call("POST", f"/models?{query}").status == 202
            assert daemon.call("DELETE", "/models/echo").status == 200
        assert segments(daemon) == 0


def test_a_refused_registration_leaves_no_files(daemon: RunningDaemon, tmp_path: Path) -> None:
    archive = make_archive(tmp_path, "slow", SLEEPS_AT_LOAD.format(seconds=3))
    with ThreadPoolExecutor() as pool:
        first = pool.submit(daemon.register, archive, initial_workers=1)
        wait_for(lambda: daemon.call("GET", "/models/slow").status == 200)
        assert daemon.call("POST", f"/models?url={archive}").status == 409
        assert first.result().status == 200
    assert len(list((daemon.state_dir / "models").iterdir())) == 1


def test_a_version_that_is_not_restored_stays_wanted_until_it_is_taken_away(tmp_path: Path) -> None:
    with running(tmp_path) as daemon:
        for version in ("1.0", "2.0"):
            daemon.register(make_archive(tmp_path, version=version))
        assert daemon.call("PUT", "/models/echo/2.0/set-default").status == 200
        daemon.stop()
    path = tmp_path / "state" / "desired-state.json"
    whole = json.loads(path.read_bytes())
    broken = json.loads(path.read_bytes())
    broken["models"]["echo"]["versions"]["2.0"]["options"] = {"from_the_future": 1}
    path.write_text(json.dumps(broken))
    with running(tmp_path) as daemon:
        assert daemon.call("GET", "/models/echo").json()[0]["modelVersion"] == "1.0"
        scaled = daemon.call("PUT", "/models/echo/1.0?min_worker=2&synchronous=true")
        assert scaled.status == 200
        saved = json.loads(path.read_bytes())["models"]["echo"]
        assert saved["default_version"] == whole["models"]["echo"]["default_version"] == "2.0"
        assert daemon.call("DELETE", "/models/echo/2.0").status == 200
        saved = json.loads(path.read_bytes())["models"]["echo"]
        assert (saved["default_version"], list(saved["versions"])) == ("1.0", ["1.0"])


def test_a_fork_server_that_says_nothing_is_replaced(tmp_path: Path) -> None:
    with running(tmp_path) as daemon:
        daemon.register(make_archive(tmp_path), initial_workers=1)
        silent = daemon.call("GET", "/tsd/status").json()["fork_server"]["pid"]
        os.kill(silent, signal.SIGSTOP)
        assert daemon.call("PUT", "/models/echo?min_worker=2&max_worker=2").status == 202
        wait_for(lambda: len(daemon.worker_pids("echo")) == 2)
        assert daemon.call("GET", "/tsd/status").json()["fork_server"]["pid"] != silent
