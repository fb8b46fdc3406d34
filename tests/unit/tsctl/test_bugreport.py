"""tsctl bugreport: what is in the archive, and what never is."""

from __future__ import annotations

import io
import json
import stat
import tarfile
import tomllib
from pathlib import Path

import pytest

from tests.unit.tsctl.made_up import STATUS, MadeUp, healthy
from tsctl.commands import bugreport
from tsctl.commands.bugreport import Part, collect, new_file, redaction_for
from tsctl.console import Console
from tsctl.failure import Failure, Status
from tsctl.machine import OUTPUT_BYTES, Machine, Output

SECRETS = ("S3CRET", "alice", "gpu7", "203.0.113.9")
NOISE = "alice@gpu7 asked from 203.0.113.9 with token=S3CRET\n"


@pytest.fixture
def made_up(tmp_path: Path) -> MadeUp:
    made_up = healthy(tmp_path / "root")
    made_up.file("/etc/hostname", "gpu7\n")
    return made_up


def parts_of(machine: Machine) -> dict[str, str]:
    return {p.name: p.text for p in collect(machine, redaction_for(machine, "gpu7.example.org"))}


def test_every_source_is_a_part_without_secrets(made_up: MadeUp) -> None:
    for program in ("tsd", "journalctl", "nvidia-smi", "systemctl", "timedatectl"):
        made_up.programs[program] = Output(NOISE, NOISE)
    made_up.file("/proc/meminfo", NOISE)
    made_up.file("/proc/4711/cgroup", "0::/system.slice/tsd.service\n")
    made_up.file("/sys/fs/cgroup/system.slice/tsd.service/memory.max", "8589934592\n")
    made_up.file("/var/lib/tsd/alice.bin", "S3CRET")
    parts = parts_of(made_up.machine())
    assert list(parts) == list(bugreport.SOURCES)
    for name, text in parts.items():
        assert text, name
        assert not [secret for secret in SECRETS if secret in text], name
    assert "8589934592" in parts["machine.txt"]
    assert "[user]@[host] asked from [address] with token=[removed]" in parts["journal.txt"]
    json.loads(parts["doctor.json"])


def test_documents_stay_what_they_are(made_up: MadeUp) -> None:
    assert isinstance(made_up.status, dict)
    made_up.status["models"] = [{"name": "digits", "version": "1.0"}]
    parts = parts_of(made_up.machine())
    assert json.loads(parts["status.json"])["pid"] == 4711
    assert json.loads(parts["runtimes.json"])["runtimes"][0]["name"] == "cuda"
    assert json.loads(parts["models.json"]) == {"/tsd/models/digits/1.0": {"unknown": NOT_FOUND}}
    assert tomllib.loads(parts["config.toml"])["doors"]["http"] == "127.0.0.1:8080"


NOT_FOUND = "no /tsd/models/digits/1.0: no reason was given"


def test_what_cannot_be_read_is_noted(made_up: MadeUp) -> None:
    made_up.programs.clear()
    made_up.status = Failure(Status.UNREACHABLE, "cannot reach it", "no such socket")
    made_up.without_systemd()
    parts = parts_of(made_up.machine())
    assert parts["journal.txt"] == parts["units.txt"] == "# systemd does not run here\n"
    assert parts["gpus.txt"] == "# No such file or directory\n"
    assert json.loads(parts["models.json"]) == {"unknown": "cannot reach it: no such socket"}
    assert "==> /proc/version\n# not readable" in parts["machine.txt"]


@pytest.mark.parametrize(
    ("told", "main_pid", "pid"),
    [("4711", "4712", "4711"), ("", "4710", "4710"), ("", "0", ""), ("../../etc", "1", "")],
)
def test_the_daemons_process_is_a_number(
    made_up: MadeUp, told: str, main_pid: str, pid: str
) -> None:
    made_up.status = {**STATUS, "pid": told}
    made_up.service["MainPID"] = main_pid
    assert made_up.machine().pid == pid


def test_a_daemon_that_is_asleep_is_left_asleep(made_up: MadeUp) -> None:
    made_up.service["ActiveState"] = "inactive"
    parts_of(made_up.machine())
    assert made_up.asked == []


def test_each_part_is_bounded(made_up: MadeUp) -> None:
    made_up.programs["nvidia-smi"] = Output("x" * OUTPUT_BYTES + "\nthe end")
    text = parts_of(made_up.machine())["gpus.txt"]
    assert len(text) == OUTPUT_BYTES
    assert text.endswith("the end")


def test_files_are_listed_and_never_read(made_up: MadeUp) -> None:
    made_up.file("/var/lib/tsd/key_file.json", "S3CRET", mode=0o600)
    made_up.file("/var/lib/tsd/models/digits/weights.pt", "12345")
    lines = list(bugreport.listing(made_up.machine(), "/var/lib/tsd"))
    assert lines[0] == "==> /var/lib/tsd"
    assert [line.split()[0] + line.split()[-1] for line in lines[1:]] == [
        "-rw-------key_file.json",
        "drwxr-xr-xmodels",
        "drwxr-xr-xmodels/digits",
        "-rw-r--r--models/digits/weights.pt",
    ]
    assert "S3CRET" not in "".join(parts_of(made_up.machine()).values())


def test_a_listing_has_an_end(made_up: MadeUp) -> None:
    for number in range(bugreport.LISTED_FILES + 1):
        made_up.file(f"/var/lib/tsd/{number}")
    lines = list(bugreport.listing(made_up.machine(), "/var/lib/tsd"))
    assert len(lines) == bugreport.LISTED_FILES + 2
    assert lines[-1] == "# and more"


def test_the_archive_is_for_its_owner_alone(tmp_path: Path) -> None:
    path = tmp_path / "r.tar.gz"
    with new_file(path, replaces=False) as file:
        bugreport.write(file, [Part("a.txt", "grüße\n", "")])
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    with tarfile.open(path) as archive:
        member = archive.extractfile("tsd-bugreport/a.txt")
        assert member is not None
        assert member.read().decode() == "grüße\n"


def test_what_is_there_is_replaced_only_by_force(tmp_path: Path) -> None:
    path, other = tmp_path / "r.tar.gz", tmp_path / "other"
    other.write_text("mine")
    path.symlink_to(other)
    with pytest.raises(Failure) as caught, new_file(path, replaces=False):
        pass
    assert "--force" in caught.value.fix
    with new_file(path, replaces=True) as file:
        file.write(b"new")
    assert (path.read_text(), other.read_text()) == ("new", "mine")
    with pytest.raises(Failure), new_file(tmp_path, replaces=True):
        pass


def test_an_archive_that_is_not_finished_does_not_stay(tmp_path: Path) -> None:
    path = tmp_path / "r.tar.gz"
    with pytest.raises(KeyboardInterrupt), new_file(path, replaces=False):
        raise KeyboardInterrupt
    assert not path.exists()


@pytest.mark.parametrize(("is_quiet", "lines"), [(False, 5), (True, 0)])
def test_it_says_where_the_archive_is_and_to_look_first(*, is_quiet: bool, lines: int) -> None:
    console = Console(io.StringIO(), io.StringIO())
    console.is_quiet = is_quiet
    bugreport.show(Path("r.tar.gz"), [Part("a.txt", "text", "what it is")], console)
    assert isinstance(console.output, io.StringIO)
    said = console.output.getvalue()
    assert len(said.splitlines()) == lines
    if lines:
        assert said.startswith("wrote r.tar.gz, which you alone can read:\n")
        assert "a.txt   4 B  what it is" in said
        assert "Look before you send it: tar -xzOf r.tar.gz | less" in said


def test_json_names_the_file_and_its_parts() -> None:
    console = Console(io.StringIO(), io.StringIO())
    console.is_json = True
    bugreport.show(Path("/tmp/r.tar.gz"), [Part("a.txt", "text", "what it is")], console)
    assert isinstance(console.output, io.StringIO)
    assert json.loads(console.output.getvalue()) == {
        "file": "/tmp/r.tar.gz",
        "contents": [{"name": "a.txt", "bytes": 4, "purpose": "what it is"}],
    }
