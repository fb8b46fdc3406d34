"""The units on a real systemd: what they say of themselves, and what runs in their sandbox."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.archives import make_archive
from tests.system import runtime
from tests.system.conftest import ASK, REPOSITORY
from tests.system.machine import Machine

UNITS = REPOSITORY / "packaging/systemd"
DROP_IN = "/etc/systemd/system/tsd.service.d/test.conf"
SETTINGS = "/etc/tsd/tsd.toml.d/test-units.toml"
GROUPS = "/sys/fs/cgroup/system.slice/tsd.service"
# The kernels that the sandbox could break: those that write code as they run, those that ask for
# threads, processes, shared memory or the network's interfaces.
KERNELS = """
    import torch
    import torch.distributed as dist

    IMAGE = torch.ones(2, 3, 32, 32)

    def layers():
        parts = torch.nn.Conv2d(3, 8, 3), torch.nn.ReLU(), torch.nn.Flatten()
        return torch.nn.Sequential(*parts, torch.nn.Linear(8 * 30 * 30, 4)).eval()

    def handle(data, context):
        if data is None:
            return None
        torch.set_num_threads(2)
        model = layers()
        with torch.inference_mode():
            eager = model(IMAGE)
            scripted = torch.jit.optimize_for_inference(torch.jit.script(model))
            for _ in range(3):
                assert torch.allclose(eager, scripted(IMAGE), atol=1e-4)
            assert model.bfloat16()(IMAGE.bfloat16()).shape == eager.shape
            attended = [torch.ones(1, 4, 64, 32)] * 3
            torch.nn.functional.scaled_dot_product_attention(*attended)
            torch.linalg.svd(torch.ones(16, 16))
        loaded = list(torch.utils.data.DataLoader(torch.arange(4), num_workers=1))
        assert len(loaded) == 4
        if not dist.is_initialized():
            dist.init_process_group("gloo")
        total = torch.ones(4)
        dist.all_reduce(total)
        return [str(int(total.sum()))] * len(data)
"""
TWO_RANKS = """
    minWorkers: 1
    maxWorkers: 1
    deviceType: cpu
    parallelType: tp
    torchrun:
      nproc-per-node: 2
"""
# What of the integration tests asks most of the sandbox; each starts daemons of its own in it.
# IN_SANDBOX=tests/integration runs them all, which takes as long as outside; one of them, with
# requirements that need torch, asks a package index, which the machine cannot reach.
INTEGRATION = os.environ.get(
    "IN_SANDBOX",
    "tests/integration/test_bare_models.py tests/integration/test_worker_groups.py",
)
INTEGRATION_S = 1800
COPIED = (
    *("tsd", "tsctl", "torchserve", "tests", "examples", "docs", "man", "packaging"),
    *("README.md", "ARCHITECTURE.md", "CHANGELOG.md", "pyproject.toml"),
)
CHECKOUT = "/srv/checkout"
RUN_TESTS = f"""
[Service]
Type=oneshot
Restart=no
WatchdogSec=0
TimeoutStartSec={INTEGRATION_S}
WorkingDirectory={CHECKOUT}
Environment=PYTHONPATH={CHECKOUT}:{CHECKOUT}/torchserve PYTHONDONTWRITEBYTECODE=1 HOME=/tmp
ExecStart=
ExecStart={runtime.ENVIRONMENT}/bin/python -m pytest -p no:cacheprovider \\
"""
# Forked twice and in a session of its own: only its group still says whose it is.
LEAVES_TWO_BEHIND = """
    import subprocess

    def leave_behind():
        stray = ["setsid", "--fork", "sleep", "1234567"]
        subprocess.run(stray, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, check=True)

    leave_behind()

    def handle(data, context):
        if data is None:
            return None
        leave_behind()
        return ["done"] * len(data)
"""


@pytest.fixture(scope="module")
def kernels(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_archive(tmp_path_factory.mktemp("kernels"), "kernels", KERNELS, TWO_RANKS)


@pytest.fixture
def changed(machine: Machine) -> Iterator[Machine]:
    """The machine, whose service the test may change by `DROP_IN` and `SETTINGS`."""
    yield machine
    machine.run("rm", "-f", DROP_IN, SETTINGS)
    machine.run("systemctl", "daemon-reload")
    machine.run("systemctl", "restart", "tsd")


@pytest.fixture(params=["", "cpu-only.conf"], ids=["for GPUs", "CPU only"])
def hardened(request: pytest.FixtureRequest, changed: Machine) -> Machine:
    """The service as it comes, and with the drop-in for machines without GPUs."""
    if request.param:
        use(changed, request.param)
    return changed


def use(machine: Machine, drop_in: str) -> None:
    """Restart the service with a drop-in of the project."""
    machine.copy_in(UNITS / "drop-ins" / drop_in, DROP_IN)
    machine.run("systemctl", "daemon-reload")
    machine.run("systemctl", "restart", "tsd")


def ask(machine: Machine, model: str) -> str:
    """One prediction, which must be answered with 200."""
    url = f"http://127.0.0.1:8080/predictions/{model}"
    return machine.run("curl", "-sSf", "-d", "x", url).stdout


@pytest.mark.parametrize("manager", ["system", "user"])
def test_systemd_finds_nothing_wrong_with_them(machine: Machine, manager: str) -> None:
    folder = UNITS / "user" if manager == "user" else UNITS
    names = sorted(path.name for path in folder.glob("tsd*.s*"))
    assert {"tsd.service", "tsd-http.socket", "tsd-grpc.socket"} <= set(names)
    assert verified(machine, f"--{manager}", *names) == ""


def test_systemd_finds_nothing_wrong_with_the_drop_ins(machine: Machine) -> None:
    machine.copy_in(UNITS, "/tmp/units")
    version = int(machine.run("systemctl", "--version").stdout.split()[1])
    for path in sorted((UNITS / "drop-ins").iterdir()):
        if version >= 253 or path.name != "notify-reload.conf":
            machine.copy_in(path, f"/tmp/units/tsd.service.d/{path.name}")
    assert verified(machine, "--system", "/tmp/units/tsd.service") == ""


def verified(machine: Machine, *words: str) -> str:
    """What systemd says to unit files; nothing where it has nothing against them."""
    command = ("env", "XDG_RUNTIME_DIR=/run", "systemd-analyze", "verify", "--man=no", *words)
    said = machine.run(*command, check=False)
    return said.stdout + said.stderr


@pytest.mark.parametrize(("drop_in", "most"), [("", 17), ("cpu-only.conf", 13)])
def test_the_sandbox_is_as_tight_as_promised(changed: Machine, drop_in: str, most: int) -> None:
    if drop_in:
        changed.copy_in(UNITS / "drop-ins" / drop_in, DROP_IN)
        changed.run("systemctl", "daemon-reload")
    said = changed.run(
        *("systemd-analyze", "security", f"--threshold={most}", "tsd.service"), check=False
    )
    assert said.returncode == 0, said.stdout


def test_torch_computes_in_the_sandbox(hardened: Machine, kernels: Path) -> None:
    hardened.copy_in(kernels, "/srv/models/kernels.mar")
    hardened.run("tsctl", "register", "/srv/models/kernels.mar")
    try:
        assert ask(hardened, "kernels") == "8"
    finally:
        hardened.run("tsctl", "unregister", "kernels")


@pytest.mark.timeout(INTEGRATION_S)
def test_the_integration_tests_pass_in_the_sandbox(changed: Machine) -> None:
    """In the one for machines without GPUs, which has all lines of the other one and more."""
    for name in COPIED:
        changed.copy_in(REPOSITORY / name, f"{CHECKOUT}/{name}")
    for command, package in (("tsd", "tsd"), ("tsctl", "tsctl"), ("torchserve", "tsd_torchserve")):
        # Where tests look for it: beside their interpreter.
        path = f"PYTHONPATH={CHECKOUT}:{CHECKOUT}/torchserve"
        script = f'#!/bin/sh\n{path} exec {runtime.ENVIRONMENT}/bin/python -m {package} "$@"\n'
        changed.write(f"{runtime.ENVIRONMENT}/bin/{command}", script)
        changed.run("chmod", "755", f"{runtime.ENVIRONMENT}/bin/{command}")
    hardening = (UNITS / "drop-ins/cpu-only.conf").read_text()
    changed.write(DROP_IN, hardening + RUN_TESTS + INTEGRATION + "\n")
    changed.run("systemctl", "daemon-reload")
    changed.run("systemctl", "stop", "tsd")
    changed.run("systemctl", "start", "tsd", timeout_s=INTEGRATION_S)
    assert changed.show("tsd", "Result") == "success"


def test_what_a_handler_leaves_behind_ends_with_its_worker(
    machine: Machine, tmp_path: Path
) -> None:
    archive = make_archive(tmp_path, "leaving", LEAVES_TWO_BEHIND)
    machine.copy_in(archive, "/srv/models/leaving.mar")
    machine.run("tsctl", "register", "/srv/models/leaving.mar")
    assert ask(machine, "leaving") == "done"
    strays = set(machine.run("pgrep", "-f", "sleep 1234567").stdout.split())
    group = f"{GROUPS}/models/leaving@1.0"
    assert len(strays) == 2
    assert strays <= set(machine.run("cat", f"{group}/worker-1/cgroup.procs").stdout.split())
    machine.run("tsctl", "unregister", "leaving")
    for stray in strays:
        machine.wait_for(f"! test -e /proc/{stray}", timeout_s=1.0)
    machine.wait_for(f"! test -e {group}")


def test_models_have_the_limits_that_the_drop_in_names(changed: Machine) -> None:
    use(changed, "model-limits.conf")
    assert changed.show("tsd", "TasksMax") == "8192"
    given = set(changed.run("cat", f"{GROUPS}/cgroup.controllers").stdout.split())
    files = {"memory": "memory.max", "pids": "pids.max", "cpu": "../cpu.weight"}
    wanted = {"memory": str(8 << 30), "pids": "512", "cpu": "50"}
    for name in given & wanted.keys():
        file = f"{GROUPS}/models/load@1.0/{files[name]}"
        assert changed.run("cat", file).stdout.strip() == wanted[name]
    # Where the machine lacks a controller, that is said instead.
    pid = changed.show("tsd", "MainPID")
    told = changed.journal("tsd", _PID=pid, TSD_EVENT="limits_missing")
    missing = [name for name in sorted(wanted) if name not in given]
    assert [", ".join(missing) in record["MESSAGE"] for record in told] == [True] * bool(missing)


def test_the_optional_door_is_opened_as_its_unit_says(machine: Machine) -> None:
    socket = "tsd-management.socket"
    machine.run("systemctl", "enable", socket)
    machine.run("systemctl", "stop", "tsd")
    machine.run("systemctl", "start", socket, "tsd")
    try:
        models = machine.run("curl", "-sSf", "http://127.0.0.1:8081/models").stdout
        assert [model["modelName"] for model in json.loads(models)["models"]] == ["load"]
    finally:
        machine.run("systemctl", "disable", "--now", socket)
        machine.run("systemctl", "restart", "tsd")


def test_operators_are_root_and_the_members_of_a_group(machine: Machine) -> None:
    machine.run("useradd", "--groups=tsd-admin", "carol")
    machine.run("useradd", "bob")
    try:
        # The files of the doors are root's, also when the service was started again.
        machine.run("systemctl", "restart", "tsd")
        machine.run("setpriv", "--reuid=carol", "--regid=carol", "--init-groups", "tsctl", "list")
        refused = machine.run(
            *("setpriv", "--reuid=bob", "--regid=bob", "--init-groups", "tsctl", "list"),
            check=False,
        )
        assert refused.returncode != 0
        assert "you may not use the control socket" in refused.stderr
        names = ("control.sock", "http.sock")
        owners = machine.run("stat", "-c", "%U:%G %a", *[f"/run/tsd/{name}" for name in names])
        assert owners.stdout.splitlines() == ["root:tsd-admin 660", "root:root 666"]
    finally:
        machine.run("userdel", "carol")
        machine.run("userdel", "bob")


def test_a_daemon_that_cannot_start_loses_no_client(changed: Machine) -> None:
    changed.write(DROP_IN, "[Service]\nExecStart=\nExecStart=/bin/false\n")
    changed.run("systemctl", "daemon-reload")
    changed.run("systemctl", "restart", "tsd", check=False)
    client = changed.start(*ASK)
    # Well above what systemd allows unless told otherwise: 5 starts in 10 s.
    changed.wait_for('test "$(systemctl show --value --property=NRestarts tsd)" -gt 10')
    assert client.poll() is None
    for name in ("http", "grpc", "metrics", "control"):
        assert changed.show(f"tsd-{name}.socket", "ActiveState") == "active"
    changed.run("rm", DROP_IN)
    changed.run("systemctl", "daemon-reload")
    assert client.wait(60) == 0


def test_a_bad_file_fails_the_reload_with_the_drop_in_for_newer_systemd_too(
    changed: Machine,
) -> None:
    version = changed.run("systemctl", "--version").stdout.split()[1]
    if int(version) >= 253:
        use(changed, "notify-reload.conf")
        assert changed.show("tsd", "Type") == "notify-reload"
    pid = changed.show("tsd", "MainPID")
    changed.write(SETTINGS, '[log]\nlevel = "loud"\n')
    reload = changed.run("systemctl", "reload", "tsd", check=False)
    assert reload.returncode != 0
    changed.wait_for("journalctl -u tsd -g loud -qn1 | grep -q .")
    changed.write(SETTINGS, '[log]\nlevel = "debug"\n')
    changed.run("systemctl", "reload", "tsd")
    assert changed.show("tsd", "MainPID") == pid
    assert changed.run(*ASK).stdout == "question"


def test_a_user_has_a_daemon_of_their_own(machine: Machine, kernels: Path) -> None:
    """Settings, state and sockets lie in the XDG directories, beside the machine's daemon."""
    machine.run("useradd", "--create-home", "ann")
    machine.run("loginctl", "enable-linger", "ann")
    machine.copy_in(kernels, "/srv/models/kernels.mar")
    try:
        machine.wait_for("test -S /run/user/$(id -u ann)/systemd/private")
        as_ann(machine, "systemctl --user enable --now tsd-control.socket tsd-http.socket")
        as_ann(machine, f"tsctl runtime add {runtime.ENVIRONMENT}")
        as_ann(machine, "tsctl register /srv/models/kernels.mar")
        url = "http://localhost/predictions/kernels"
        door = "$XDG_RUNTIME_DIR/tsd/http.sock"
        assert as_ann(machine, f"curl -sSf --unix-socket {door} -d x {url}") == "8"
        as_ann(machine, "systemctl --user restart tsd")
        assert as_ann(machine, f"curl -sSf --unix-socket {door} -d x {url}") == "8"
        as_ann(machine, "systemctl --user reload tsd")
        state = json.loads(as_ann(machine, "tsctl status --json"))
        assert state["state_dir"] == "/home/ann/.local/state/tsd"
        modes = as_ann(machine, "stat -c %a $XDG_RUNTIME_DIR/tsd/*.sock").split()
        assert set(modes) == {"600"}
    finally:
        machine.run("loginctl", "terminate-user", "ann")
        machine.wait_for("! systemctl is-active --quiet user@$(id -u ann).service")
        machine.run("userdel", "--remove", "ann", check=False)


def as_ann(machine: Machine, command: str) -> str:
    """What a shell of the user says."""
    shell = f"export XDG_RUNTIME_DIR=/run/user/$(id -u); {command}"
    return machine.run("su", "-", "ann", "-c", shell).stdout
