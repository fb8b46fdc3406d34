"""What systemd says: the service, its drop-ins, the socket units."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.unit.tsctl.made_up import MadeUp
from tsctl.checks import unit
from tsctl.machine import Output, Scope

UNITS = Path(__file__).parents[4] / "packaging" / "systemd"
DROP_INS = UNITS / "drop-ins"


def test_a_healthy_service_is_good(made_up: MadeUp) -> None:
    machine = made_up.machine()
    assert unit.service(machine).text == "tsd.service is active (running)"
    assert [c(machine).ok for c in (unit.service, unit.sockets, unit.drop_ins)] == [True] * 3


@pytest.mark.parametrize("check", [unit.service, unit.sockets, unit.drop_ins])
def test_without_systemd_or_without_units_there_is_nothing_to_check(
    made_up: MadeUp, check: object
) -> None:
    assert callable(check)
    made_up.service = {}
    assert check(made_up.machine()).text == "there is no tsd.service"
    made_up.without_systemd()
    assert check(made_up.machine()).text == "systemd does not run here"
    assert check(made_up.machine(socket="/tmp/x/control.sock")).ok is None


def test_a_service_that_failed_is_wrong(made_up: MadeUp) -> None:
    made_up.service |= {"ActiveState": "failed", "SubState": "failed", "Result": "exit-code"}
    made_up.service |= {"ExecMainStatus": "78"}
    found = unit.service(made_up.machine())
    assert found.ok is False
    assert "last end: exit-code, exit status 78" in found.text
    assert found.fix.startswith("journalctl")


@pytest.mark.parametrize("how", ["auto-restart", "start"])
def test_one_that_is_tried_again_and_again_is_wrong(made_up: MadeUp, how: str) -> None:
    made_up.service |= {"ActiveState": "activating", "SubState": how, "NRestarts": "9"}
    found = unit.service(made_up.machine())
    assert found.ok is False
    assert "restarted by systemd 9 times" in found.text


def test_one_that_a_reboot_forgets_is_wrong(made_up: MadeUp) -> None:
    made_up.service["UnitFileState"] = "disabled"
    assert unit.service(made_up.machine()).fix == "sudo systemctl enable tsd"


@pytest.mark.parametrize("name", ["http", "control"])
def test_a_needed_socket_that_is_off_is_wrong(made_up: MadeUp, name: str) -> None:
    made_up.sockets[name] = {"ActiveState": "inactive", "UnitFileState": "disabled"}
    found = unit.sockets(made_up.machine())
    assert (found.ok, found.text) == (False, f"tsd-{name}.socket is inactive")
    assert found.fix == (
        f"sudo systemctl enable tsd-{name}.socket; "
        f"sudo systemctl stop tsd; sudo systemctl restart tsd-{name}.socket tsd"
    )


def test_other_sockets_may_be_off(made_up: MadeUp) -> None:
    made_up.sockets["grpc"] = {"ActiveState": "inactive", "UnitFileState": "disabled"}
    assert unit.sockets(made_up.machine()).text == (
        "tsd-http.socket, tsd-metrics.socket, tsd-control.socket"
    )
    made_up.sockets["grpc"]["UnitFileState"] = "enabled"
    assert unit.sockets(made_up.machine()).ok is False


def test_drop_ins_that_do_no_harm_are_listed(made_up: MadeUp) -> None:
    made_up.service["DropInPaths"] = "/etc/systemd/system/tsd.service.d/memory.conf"
    found = unit.drop_ins(made_up.machine())
    assert (found.ok, found.text) == (True, "/etc/systemd/system/tsd.service.d/memory.conf")


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("Type", "simple"),
        ("Restart", "on-failure"),
        ("StartLimitIntervalUSec", "10s"),
        ("KillMode", "process"),
        ("WatchdogUSec", "0"),
        ("User", "root"),
        ("User", ""),
        ("NoNewPrivileges", "no"),
        ("ProtectSystem", "full"),
        ("CapabilityBoundingSet", "cap_sys_admin"),
        ("SystemCallFilter", ""),
    ],
)
def test_a_drop_in_that_does_harm_is_named(made_up: MadeUp, name: str, value: str) -> None:
    path = "/etc/systemd/system/tsd.service.d/local.conf"
    directive = name.replace("USec", "Sec")
    made_up.file(path, f"[Service]\n{directive}={value}\n")
    made_up.service |= {"DropInPaths": f"/etc/other.conf {path}", name: value}
    found = unit.drop_ins(made_up.machine())
    assert found.ok is False
    assert found.text.startswith(f"{name}={value or 'nothing'}: ")
    assert found.fix == f"take {directive}= out of {path}"


def test_what_the_unit_file_itself_says_is_blamed_on_it(made_up: MadeUp) -> None:
    made_up.service["Restart"] = "no"
    fix = unit.drop_ins(made_up.machine()).fix
    assert fix == "take Restart= out of /usr/lib/systemd/system/tsd.service"


def test_units_that_changed_on_disk_are_to_be_read_again(made_up: MadeUp) -> None:
    made_up.service["NeedDaemonReload"] = "yes"
    assert "daemon-reload" in unit.drop_ins(made_up.machine()).fix


def test_lines_that_systemd_does_not_understand_are_told(made_up: MadeUp) -> None:
    line = "/etc/systemd/system/tsd.service.d/x.conf:2: Unknown key name 'Memory' in section"
    said = f"/lib/systemd/system/other.service:3: Unknown key\n{line}\n"
    made_up.programs["systemd-analyze"] = Output("", said, "exit status 1")
    found = unit.drop_ins(made_up.machine())
    assert (found.ok, found.text) == (False, line)


def directives(path: Path) -> dict[str, str]:
    """What a unit file says, under the names that `systemctl show` has for it."""
    lines = [x.split("=", 1) for x in path.read_text().splitlines() if "=" in x and x[0] != "#"]
    return {name.replace("Sec", "USec"): value for name, value in lines if name.isalpha()}


@pytest.mark.parametrize("drop_in", ["", *(path.name for path in DROP_INS.glob("*.conf"))])
def test_the_unit_that_is_shipped_keeps_all_rules_with_each_drop_in(drop_in: str) -> None:
    said = directives(UNITS / "tsd.service")
    assert {"Type", "Restart", "WatchdogUSec", "ProtectSystem", "User"} <= said.keys()
    more = directives(DROP_INS / drop_in) if drop_in else {}
    assert unit.broken(said | more, Scope.SYSTEM) == []


def test_the_unit_of_a_users_own_keeps_the_rules_that_are_for_it() -> None:
    said = directives(UNITS / "user" / "tsd.service")
    assert "Type" in said
    assert unit.broken(said, Scope.USER) == []
