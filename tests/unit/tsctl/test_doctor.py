"""tsctl doctor: what it prints, and that no machine is too bare for it."""

from __future__ import annotations

import io
import os
from pathlib import Path

import pytest

from tests.unit.tsctl.checks.test_storage import room
from tests.unit.tsctl.made_up import ALICE, MadeUp, healthy
from tsctl.checks.finding import Finding, good, together, unseen, wrong
from tsctl.commands import doctor
from tsctl.console import Console
from tsctl.failure import Failure, Status

FOUND = {"driver": good("NVIDIA 580"), "disk": wrong("full\x1b", "make room"), "clock": unseen("?")}


class Terminal(io.StringIO):
    """A stream that says it is a terminal."""

    def isatty(self) -> bool:
        return True


def shown(output: io.TextIOBase) -> list[str]:
    assert isinstance(output, io.StringIO | io.TextIOWrapper)
    return list(doctor.lines(FOUND, Console(output, io.StringIO())))


def test_each_check_is_a_line_and_a_fix_where_there_is_one() -> None:
    assert shown(io.StringIO()) == [
        "✔ driver  NVIDIA 580",
        "✘ disk    full\\x1b",
        "          fix: make room",
        "\N{EN DASH} clock   ?",
        "1 of 3 checks found something wrong",
    ]


def test_a_terminal_without_these_signs_gets_others() -> None:
    lines = shown(io.TextIOWrapper(io.BytesIO(), encoding="latin-1"))
    assert [line[0] for line in lines[:2]] == ["+", "x"]
    assert "".join(lines).isascii()


def test_signs_are_coloured_on_a_terminal() -> None:
    first, second, *_ = shown(Terminal())
    assert first.startswith("\x1b[32m✔\x1b[0m driver")
    assert second.startswith("\x1b[31m✘\x1b[0m disk")


def test_json_has_a_member_for_each_check() -> None:
    assert doctor.members(FOUND)[1:] == [
        {"check": "disk", "ok": False, "finding": "full\x1b", "fix": "make room"},
        {"check": "clock", "ok": None, "finding": "?", "fix": ""},
    ]


def test_of_several_findings_the_worst_are_told() -> None:
    assert together([good("a"), good("b")]) == Finding(ok=True, text="a, b")
    assert together([good("a"), unseen("b", "root")]) == unseen("b", "root")
    several = [good("a"), unseen("b", "root"), wrong("c", "do x"), wrong("d", "do x")]
    assert together(several) == wrong("c, d", "do x")


def test_on_a_healthy_machine_nothing_is_wrong(tmp_path: Path) -> None:
    made_up = healthy(tmp_path)
    made_up.sockets.clear()
    made_up.without_systemd()
    made_up.status = Failure(Status.NOT_PERMITTED, "you may not", "denied", "run it as root")
    found = doctor.findings(made_up.machine(space=room()))
    assert [name for name, finding in found.items() if finding.ok is False] == []


def test_a_bare_machine_is_told_of_what_is_missing(tmp_path: Path) -> None:
    made_up = MadeUp(tmp_path, status=Failure(Status.UNREACHABLE, "cannot reach it", "no socket"))
    made_up.programs.clear()
    found = doctor.findings(made_up.machine(space=room()))
    assert list(found) == list(doctor.CHECKS)
    assert [name for name, finding in found.items() if finding.ok is False] == ["daemon"]


@pytest.mark.parametrize("noise", ["", "\n\n", "a b c\n" * 5, "::::\n=\n", "\x00\xff\n"])
def test_files_that_say_nothing_sensible_break_no_check(tmp_path: Path, noise: str) -> None:
    made_up = MadeUp(tmp_path, status={})
    made_up.folder("/run/systemd/system")
    for name in ("passwd", "group"):
        made_up.file(f"/etc/{name}", noise)
    for name in ("net/tcp", "net/unix", "meminfo", "driver/nvidia/version", "4711/limits"):
        made_up.file(f"/proc/{name}", noise)
    assert len(doctor.findings(made_up.machine(space=room()))) == len(doctor.CHECKS)


def test_everything_wrong_has_a_fix(tmp_path: Path) -> None:
    made_up = healthy(tmp_path)
    made_up.service |= {"ActiveState": "failed", "User": "root", "LimitNOFILE": "64"}
    made_up.status = Failure(Status.UNREACHABLE, "cannot reach it", "no socket")
    made_up.sockets.clear()
    made_up.folder("/var/lib/tsd").chmod(0o777)
    found = doctor.findings(made_up.machine(space=room(bavail=1), now=0.0))
    bad = {name: finding for name, finding in found.items() if finding.ok is False}
    assert len(bad) >= 8
    assert all(finding.fix for finding in bad.values())


def test_nothing_is_changed(tmp_path: Path) -> None:
    made_up = healthy(tmp_path)
    before = sorted(os.walk(tmp_path))
    doctor.findings(made_up.machine(space=room(), caller=ALICE))
    assert sorted(os.walk(tmp_path)) == before
    verbs = {words[2] for words in made_up.run if words[0] == "systemctl"}
    assert verbs == {"show"}
