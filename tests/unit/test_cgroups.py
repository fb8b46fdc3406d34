"""Groups of workers, on folders that look like the kernel's; tests/system has real ones."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

import pytest

from tsd.cgroups import HANDED_OVER, Cgroups, Limits, handed_over, limits_of
from tsd.settings import ServingSettings

FILES = ("cgroup.procs", "cgroup.kill", "cgroup.subtree_control", "memory.max", "pids.max")
WORKER = "echo@1.0/worker-1"


@pytest.fixture
def group(tmp_path: Path) -> Path:
    """A group with what the kernel would make in it, and below it."""
    for name in (".", "daemon", "models", "models/echo@1.0", f"models/{WORKER}"):
        folder = tmp_path / name
        folder.mkdir(exist_ok=True)
        for file in FILES:
            (folder / file).touch()
    (tmp_path / "models/cpu.weight").touch()
    (tmp_path / "cgroup.controllers").write_text("cpuset memory pids\n")
    return tmp_path


def place(cgroups: Cgroups, pid: int) -> None:
    """What a fork does."""
    cgroups.prepare(WORKER)
    cgroups.forked(WORKER, pid)


def test_the_daemon_moves_out_of_the_way_of_its_workers(group: Path) -> None:
    Cgroups(group, Limits()).take_over()
    assert (group / "daemon/cgroup.procs").read_text() == str(os.getpid())
    for folder in (group, group / "models"):
        assert (folder / "cgroup.subtree_control").read_text() in ("+memory", "+pids")


def test_a_new_worker_is_put_where_the_limits_of_its_model_are(group: Path) -> None:
    cgroups = Cgroups(group, Limits(memory_bytes=1 << 30, pids=64))
    cgroups.take_over()
    folder = group / "models" / WORKER
    assert cgroups.prepare(WORKER) == str(folder)
    model = group / "models/echo@1.0"
    assert (model / "memory.max").read_text() == str(1 << 30)
    assert (model / "pids.max").read_text() == "64"
    assert not (folder / "cgroup.procs").read_text(), "it goes there by itself"


def test_the_weight_of_models_counts_against_the_daemon(group: Path) -> None:
    (group / "cgroup.controllers").write_text("cpu\n")
    cgroups = Cgroups(group, Limits(cpu_weight=50))
    cgroups.take_over()
    assert cgroups.prepare(WORKER)
    assert (group / "models/cpu.weight").read_text() == "50"


def test_new_limits_hold_for_running_workers(group: Path) -> None:
    cgroups = Cgroups(group, Limits(pids=64))
    cgroups.take_over()
    cgroups.prepare(WORKER)
    (group / "models/echo@1.0/pids.max").write_text("")

    async def reload() -> None:
        cgroups.configure(Limits())

    asyncio.run(reload())
    assert (group / "models/echo@1.0/pids.max").read_text() == "max"


def test_what_a_worker_left_behind_is_ended(group: Path) -> None:
    cgroups = Cgroups(group, Limits())
    cgroups.take_over()
    place(cgroups, 4711)
    folder = group / "models" / WORKER
    (folder / "cgroup.procs").write_text("4711\n4712\n")
    cgroups.sweep()
    assert not (folder / "cgroup.kill").read_text()
    (folder / "cgroup.procs").write_text("4712\n")
    cgroups.sweep()
    assert (folder / "cgroup.kill").read_text() == "1"


def test_a_worker_with_the_same_number_does_not_inherit_what_was_left(group: Path) -> None:
    cgroups = Cgroups(group, Limits())
    cgroups.take_over()
    folder = group / "models" / WORKER
    place(cgroups, 4711)
    (folder / "cgroup.procs").write_text("4712\n")
    cgroups.prepare(WORKER)
    assert (folder / "cgroup.kill").read_text() == "1"
    (folder / "cgroup.kill").write_text("")
    cgroups.sweep()
    assert not (folder / "cgroup.kill").read_text(), "nobody knows yet who the second one is"
    cgroups.forked(WORKER, 4713)
    (folder / "cgroup.procs").write_text("4713\n")
    cgroups.sweep()
    assert not (folder / "cgroup.kill").read_text(), "the first one's end is not the second one's"


def test_a_process_that_comes_after_its_fork_was_given_up_is_ended(group: Path) -> None:
    cgroups = Cgroups(group, Limits())
    cgroups.take_over()
    place(cgroups, 0)
    folder = group / "models" / WORKER
    (folder / "cgroup.procs").write_text("4711\n")
    cgroups.sweep()
    assert (folder / "cgroup.kill").read_text() == "1"


def test_limits_without_their_controller_are_told(
    group: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    cgroups = Cgroups(group, Limits(cpu_weight=50, pids=64))
    cgroups.take_over()
    assert "no cpu controller" in capsys.readouterr().out


def test_a_group_that_cannot_be_changed_is_told_once(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    cgroups = Cgroups(tmp_path / "gone", Limits())
    cgroups.take_over()
    assert not cgroups.prepare(WORKER)
    cgroups.forked(WORKER, 4711)
    cgroups.failed("nor this one")
    cgroups.sweep()
    assert capsys.readouterr().out.count("no groups of their own") == 1


def test_without_a_group_nothing_is_done_and_only_limits_are_told(
    capsys: pytest.CaptureFixture[str],
) -> None:
    cgroups = Cgroups(None, Limits())
    cgroups.take_over()
    assert not cgroups.prepare(WORKER)
    cgroups.forked(WORKER, 4711)
    cgroups.sweep()
    assert not capsys.readouterr().out

    async def reload() -> None:
        cgroups.configure(Limits(pids=1))

    asyncio.run(reload())
    assert "no pids controller" in capsys.readouterr().out


def test_the_own_group_counts_only_where_it_was_handed_over(tmp_path: Path) -> None:
    membership, own = tmp_path / "membership", tmp_path / "system.slice/tsd.service"
    own.mkdir(parents=True)
    membership.write_text("1:name=systemd:/other\n0::/system.slice/tsd.service\n")
    assert handed_over(membership, tmp_path) is None
    os.setxattr(own, HANDED_OVER, b"1")
    assert handed_over(membership, tmp_path) == own
    membership.write_text("1:name=systemd:/system.slice/tsd.service\n")
    assert handed_over(membership, tmp_path) is None
    assert handed_over(tmp_path / "gone", tmp_path) is None


def test_limits_come_from_the_settings() -> None:
    serving = ServingSettings(model_memory_bytes=1, model_pids=2, model_cpu_weight=3)
    assert limits_of(serving) == Limits(memory_bytes=1, pids=2, cpu_weight=3)
