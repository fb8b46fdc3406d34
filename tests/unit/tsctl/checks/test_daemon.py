"""What the daemon says of itself, and what its silence means."""

from __future__ import annotations

import pytest

from tests.unit.tsctl.checks.test_gpu import with_driver
from tests.unit.tsctl.made_up import RUNTIME, STATUS, MadeUp
from tsctl.checks import daemon
from tsctl.failure import Failure, Status
from tsctl.machine import Machine

AWAY = Failure(Status.UNREACHABLE, "cannot reach the daemon at /s", "there is no such socket")


def test_a_daemon_that_answers_is_good(made_up: MadeUp) -> None:
    found = daemon.daemon(made_up.machine())
    assert found.ok is True
    assert "is ready for 1 min 15 s, process 4711" in found.text


def test_a_daemon_that_drains_is_not(made_up: MadeUp) -> None:
    made_up.status = {**STATUS, "state": "draining"}
    assert daemon.daemon(made_up.machine()).ok is False


@pytest.mark.parametrize(
    ("has_systemd", "fix"), [(True, "sudo systemctl restart tsd"), (False, "start it: tsd")]
)
def test_a_daemon_that_is_away_is_told_how_to_start(
    made_up: MadeUp, fix: str, *, has_systemd: bool
) -> None:
    made_up.status = AWAY
    if not has_systemd:
        made_up.without_systemd()
    found = daemon.daemon(made_up.machine())
    assert found.ok is False
    assert fix in found.fix


def test_one_that_left_because_it_was_idle_is_not_woken(made_up: MadeUp) -> None:
    made_up.service["ActiveState"] = "inactive"
    machine = made_up.machine()
    assert daemon.daemon(machine).ok is True
    assert daemon.runtime(machine).ok is None
    assert machine.ask_if_awake("/tsd/runtimes") is machine.status
    assert made_up.asked == []


def test_one_whose_start_failed_is_not_started_either(made_up: MadeUp) -> None:
    made_up.service["ActiveState"] = "failed"
    found = daemon.daemon(made_up.machine())
    assert (found.ok, found.text) == (False, "the daemon does not run: its last start failed")
    assert made_up.asked == []


def test_who_may_not_ask_is_told_how(made_up: MadeUp) -> None:
    made_up.status = Failure(Status.NOT_PERMITTED, "you may not", "denied", "run it as root")
    found = daemon.daemon(made_up.machine())
    assert (found.ok, found.text, found.fix) == (None, "you may not", "run it as root")


def test_versions_are_to_be_equal(made_up: MadeUp) -> None:
    assert daemon.versions(made_up.machine()).ok is True
    made_up.status = {**STATUS, "version": "0.0.9"}
    found = daemon.versions(made_up.machine())
    assert found.ok is False
    assert "the daemon is 0.0.9" in found.text


def test_a_users_daemon_is_restarted_by_the_users_manager(made_up: MadeUp) -> None:
    made_up.status = {**STATUS, "version": "0.0.9"}
    own = {"XDG_RUNTIME_DIR": "/run/user/1001"}
    machine = made_up.machine(socket="/run/user/1001/tsd/control.sock", environment=own)
    assert daemon.versions(machine).fix == "systemctl --user restart tsd"


def test_failed_models_are_named_with_their_errors(made_up: MadeUp) -> None:
    rows = [
        {"name": "digits", "version": "1.0", "state": "failed", "last_error": "ImportError: x\ny"},
        {"name": "echo", "version": "1.0", "state": "ready"},
    ]
    made_up.status = {**STATUS, "models": rows}
    found = daemon.models(made_up.machine())
    assert (found.ok, found.text) == (False, "digits 1.0 failed: ImportError: x")
    assert found.fix == "tsctl describe digits 1.0"
    made_up.status = {**STATUS, "models": rows[1:]}
    assert daemon.models(made_up.machine()).ok is True


@pytest.mark.parametrize("check", [daemon.versions, daemon.models, daemon.runtime])
def test_without_a_daemon_there_is_nothing_to_ask(made_up: MadeUp, check: object) -> None:
    made_up.status = AWAY
    machine: Machine = made_up.machine()
    assert callable(check)
    assert check(machine) is daemon.SILENT


def test_a_daemon_that_does_not_know_runtimes_is_not_wrong(made_up: MadeUp) -> None:
    made_up.refused = "/tsd/runtimes"
    assert daemon.runtime(made_up.machine()).ok is None


def test_no_runtime_is_wrong(made_up: MadeUp) -> None:
    made_up.runtimes = []
    found = daemon.runtime(made_up.machine())
    assert found.ok is False
    assert "tsctl runtime create" in found.fix


def test_a_runtime_with_a_problem_is_wrong(made_up: MadeUp) -> None:
    made_up.runtimes = [dict(RUNTIME), {**RUNTIME, "name": "old", "problem": "no torch\nat all"}]
    found = daemon.runtime(made_up.machine())
    assert (found.ok, found.text) == (False, "old: no torch")
    assert found.fix == "tsctl runtime check old"


def test_a_cuda_that_cannot_be_used_is_wrong_where_there_is_a_driver(made_up: MadeUp) -> None:
    made_up.runtimes = [{**RUNTIME, "cuda_trouble": "no device\nseen"}]
    assert daemon.runtime(made_up.machine()).ok is True
    found = daemon.runtime(with_driver(made_up).machine())
    assert (found.ok, found.fix) == (False, "tsctl runtime check cuda")
    assert found.text.endswith("torch 2.13.0: no device")


def test_a_runtime_tells_its_versions(made_up: MadeUp) -> None:
    found = daemon.runtime(made_up.machine())
    assert (found.ok, found.text) == (True, "cuda: /opt/torch/bin/python, torch 2.13.0")
    assert daemon.runtime(with_driver(made_up).machine()).text.endswith(", CUDA 13.0")
    made_up.runtimes = [{**RUNTIME, "cuda": ""}]
    assert daemon.runtime(made_up.machine()).text.endswith(", for the CPU only")
