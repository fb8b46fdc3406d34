"""systemd: what its variables mean, and the words it is told."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tsd import systemd
from tsd.systemd import Environment, Notifier, Places


def env(uid: int = 1000, **variables: str) -> Environment:
    return Environment(variables=variables, uid=uid, pid=42)


def told(act: str, *arguments: object) -> list[str]:
    sent: list[str] = []
    getattr(Notifier(sent.append), act)(*arguments)
    return sent[0].split("\n")


def test_root_has_the_systems_directories() -> None:
    assert systemd.places(env(uid=0, HOME="/root", XDG_RUNTIME_DIR="/run/user/0")) == Places(
        Path("/run/tsd"), Path("/var/lib/tsd"), Path("/etc/tsd/tsd.toml")
    )


def test_a_user_has_xdg_directories() -> None:
    variables: dict[str, Any] = {
        "XDG_RUNTIME_DIR": "/run/user/1000",
        "XDG_STATE_HOME": "/s",
        "XDG_CONFIG_HOME": "/c",
    }
    assert systemd.places(env(HOME="/home/u", **variables)) == Places(
        Path("/run/user/1000/tsd"), Path("/s/tsd"), Path("/c/tsd/tsd.toml")
    )


def test_a_user_without_xdg_variables_has_the_directories_they_stand_for() -> None:
    assert systemd.places(env(HOME="/home/u", XDG_STATE_HOME="relative")) == Places(
        Path("/tmp/tsd-1000"),
        Path("/home/u/.local/state/tsd"),
        Path("/home/u/.config/tsd/tsd.toml"),
    )


@pytest.mark.parametrize("uid", [0, 1000])
def test_a_service_has_the_directories_that_systemd_made(uid: int) -> None:
    service: dict[str, Any] = {
        "RUNTIME_DIRECTORY": "/run/a:/run/b",
        "STATE_DIRECTORY": "/var/lib/a",
        "CONFIGURATION_DIRECTORY": "/etc/a",
    }
    assert systemd.places(env(uid=uid, **service)) == Places(
        Path("/run/a"), Path("/var/lib/a"), Path("/etc/a/tsd.toml")
    )


def test_children_do_not_hear_what_was_said_to_the_daemon() -> None:
    said = env(
        PATH="/bin", NOTIFY_SOCKET="/run/n", WATCHDOG_USEC="1", LISTEN_FDS="1", JOURNAL_STREAM="1:2"
    )
    assert said.for_children() == {"PATH": "/bin"}
    assert said.journal_stream == "1:2"


def test_values_of_the_environment_do_not_show_in_a_traceback() -> None:
    assert "secret" not in repr(env(TOKEN="secret"))


def test_readiness_comes_with_a_status() -> None:
    assert told("ready", "2 models") == ["READY=1", "STATUS=2 models"]


def test_a_status_stays_one_ascii_line() -> None:
    assert told("status", "grün\nREADY=1\x1b") == ["STATUS=gr?n?READY=1?"]


def test_reloading_tells_the_time() -> None:
    first, second = told("reloading")
    assert first == "RELOADING=1"
    assert second.removeprefix("MONOTONIC_USEC=").isdecimal()


def test_the_other_words() -> None:
    assert told("stopping") == ["STOPPING=1"]
    assert told("watchdog") == ["WATCHDOG=1"]
    assert told("extend_timeout", 1.5) == ["EXTEND_TIMEOUT_USEC=1500000"]


def test_without_a_service_manager_nobody_is_told() -> None:
    systemd.notifier(env()).ready("alone")


@pytest.mark.parametrize(
    ("variables", "expected"),
    [
        ({"WATCHDOG_USEC": "10000000", "WATCHDOG_PID": "42"}, 5.0),
        ({"WATCHDOG_USEC": "10000000"}, 5.0),
        ({"WATCHDOG_USEC": "10000000", "WATCHDOG_PID": "43"}, None),
        ({"WATCHDOG_USEC": "0"}, None),
        ({"WATCHDOG_USEC": "soon"}, None),
        ({}, None),
    ],
)
def test_the_watchdog_is_fed_twice_as_often_as_asked(
    variables: dict[str, str], expected: float | None
) -> None:
    assert systemd.watchdog_interval_s(Environment(variables, uid=0, pid=42)) == expected


def test_inherited_descriptors_have_names() -> None:
    passed = env(LISTEN_PID="42", LISTEN_FDS="3", LISTEN_FDNAMES="http:")
    assert systemd.inherited_descriptors(passed) == [(3, "http"), (4, "unknown"), (5, "unknown")]


@pytest.mark.parametrize(
    "variables",
    [
        {"LISTEN_PID": "43", "LISTEN_FDS": "1"},
        {"LISTEN_FDS": "1"},
        {"LISTEN_PID": "42"},
        {"LISTEN_PID": "42", "LISTEN_FDS": "-1"},
    ],
)
def test_descriptors_for_another_process_are_left_alone(variables: dict[str, str]) -> None:
    assert systemd.inherited_sockets(Environment(variables, uid=0, pid=42)) == {}
