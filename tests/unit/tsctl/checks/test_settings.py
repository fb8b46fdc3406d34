"""The configuration as tsd reads it, and the clock."""

from __future__ import annotations

import pytest

from tests.unit.tsctl.made_up import MadeUp
from tsctl.checks import settings
from tsctl.machine import Output

REFUSED = "tsd: unknown setting doors.htp\n  why: /etc/tsd/tsd.toml has it\n  fix: doors.http?\n"


def test_a_valid_configuration_is_good(made_up: MadeUp) -> None:
    assert settings.configuration(made_up.machine()).text == "valid"


def test_it_is_that_of_the_service_whoever_asks(made_up: MadeUp) -> None:
    made_up.service["RuntimeDirectory"] = "tsd/private"
    machine = made_up.machine(tsd=("/usr/bin/tsd",))
    settings.configuration(machine)
    assert made_up.run[-1] == (
        *("env", "-i", "PATH=/usr/bin", "STATE_DIRECTORY=/var/lib/tsd"),
        *("RUNTIME_DIRECTORY=/run/tsd/private", "CONFIGURATION_DIRECTORY=/etc/tsd"),
        *("/usr/bin/tsd", "--print-config"),
    )


def test_for_a_daemon_by_hand_it_is_the_callers(made_up: MadeUp) -> None:
    settings.configuration(made_up.machine(socket="/tmp/control.sock"))
    assert made_up.run == [("tsd", "--print-config")]


def test_what_tsd_refuses_is_told_in_its_words(made_up: MadeUp) -> None:
    made_up.programs["tsd"] = Output("", REFUSED, "exit status 78")
    found = settings.configuration(made_up.machine())
    assert found.ok is False
    assert found.text == "unknown setting doors.htp: /etc/tsd/tsd.toml has it"
    assert found.fix == "doors.http?"


def test_what_the_caller_may_not_read_is_not_wrong(made_up: MadeUp) -> None:
    said = "tsd: cannot read /etc/tsd/tsd.toml\n  why: Permission denied\n"
    made_up.programs["tsd"] = Output("", said, "exit status 78")
    found = settings.configuration(made_up.machine())
    assert found.ok is None
    assert "sudo tsctl doctor" in found.fix


def test_a_tsd_that_cannot_be_run_is_not_wrong_either(made_up: MadeUp) -> None:
    made_up.programs["tsd"] = Output(problem="no answer within 3.0 s")
    found = settings.configuration(made_up.machine())
    assert (found.ok, found.text) == (None, "tsd could not be asked: no answer within 3.0 s")


def test_a_tsd_that_breaks_off_is_to_be_installed_anew(made_up: MadeUp) -> None:
    said = "Traceback (most recent call last):\n  File x\nImportError: no uvloop\n"
    made_up.programs["tsd"] = Output("", said, "exit status 1")
    found = settings.configuration(made_up.machine())
    assert (found.ok, found.text) == (False, "tsd broke off: ImportError: no uvloop")


def test_a_warning_is_told(made_up: MadeUp) -> None:
    made_up.programs["tsd"] = Output("", "tsd: warning: doors.http is open to all\n")
    assert settings.configuration(made_up.machine()).text == "doors.http is open to all"


@pytest.mark.parametrize(
    ("said", "ok"),
    [
        ("NTPSynchronized=yes\nCanNTP=no\n", True),
        ("NTPSynchronized=no\nCanNTP=yes\n", False),
        ("NTPSynchronized=no\nCanNTP=no\n", None),
        ("", None),
    ],
)
def test_the_clock_is_to_be_synchronised(made_up: MadeUp, said: str, *, ok: bool | None) -> None:
    made_up.programs["timedatectl"] = Output(said)
    assert settings.clock(made_up.machine()).ok is ok


def test_without_timedatectl_the_clock_is_not_seen(made_up: MadeUp) -> None:
    del made_up.programs["timedatectl"]
    assert settings.clock(made_up.machine()).ok is None


def test_a_clock_before_the_build_is_wrong(made_up: MadeUp) -> None:
    found = settings.clock(made_up.machine(now=0.0))
    assert (found.ok, found.text) == (False, "it says 1970-01-01, before tsd was built")
