"""tsctl doctor and tsctl bugreport, beside a real daemon and without one."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tarfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tests.support.archives import make_archive
from tests.support.daemon import RunningDaemon
from tsctl.machine import OUTPUT_BYTES, execute

# Longer than everything that is asked may take together.
PATIENCE_S = 60.0


def tsctl(socket: Path, *words: str, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "tsctl", "--socket", str(socket), *words]
    return subprocess.run(
        command,
        capture_output=True,
        text=True,
        check=False,
        timeout=PATIENCE_S,
        cwd=cwd,
        stdin=subprocess.DEVNULL,
        env=os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])},
    )


def findings(socket: Path) -> tuple[int, Mapping[str, Any]]:
    done = tsctl(socket, "doctor", "--json")
    return done.returncode, {row["check"]: row for row in json.loads(done.stdout)}


def test_a_daemon_that_serves_is_found_well(daemon: RunningDaemon, tmp_path: Path) -> None:
    daemon.register(make_archive(tmp_path), initial_workers=1)
    status, found = findings(daemon.control)
    for name in ("daemon", "versions", "models", "runtime", "sockets", "ports", "state"):
        assert found[name]["ok"] is True, found[name]
    assert f"process {daemon.pid}" in found["daemon"]["finding"]
    assert found["models"]["finding"] == "1 registered, none failed"
    assert str(daemon.port()) in found["ports"]["finding"]
    assert found["state"]["finding"].endswith("desired state of 1 models")
    assert found["service"]["ok"] is None
    assert status == int(any(row["ok"] is False for row in found.values()))


def test_a_daemon_that_hangs_or_is_gone_is_told_within_bounds(daemon: RunningDaemon) -> None:
    daemon.process.send_signal(signal.SIGSTOP)
    try:
        status, found = findings(daemon.control)
    finally:
        daemon.process.send_signal(signal.SIGCONT)
    assert (status, found["daemon"]["ok"]) == (1, False)
    assert "did not answer" in found["daemon"]["finding"]
    daemon.stop()
    status, found = findings(daemon.control)
    assert (status, found["daemon"]["ok"], found["sockets"]["ok"]) == (1, False, None)
    assert found["daemon"]["fix"].startswith("start it")


def test_a_bug_report_is_whole(daemon: RunningDaemon, tmp_path: Path) -> None:
    daemon.register(make_archive(tmp_path), initial_workers=1)
    done = tsctl(daemon.control, "bugreport", cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    (path,) = tmp_path.glob("tsd-bugreport-*.tar.gz")
    assert f"wrote {path.name}" in done.stdout
    with tarfile.open(path) as archive:
        parts = {m.name: archive.extractfile(m) for m in archive.getmembers()}
        texts = {name: file.read().decode() for name, file in parts.items() if file}
    assert json.loads(texts["tsd-bugreport/status.json"])["pid"] == daemon.pid
    assert "/tsd/models/echo/1.0" in json.loads(texts["tsd-bugreport/models.json"])
    assert json.loads(texts["tsd-bugreport/log.json"])["records"]
    assert "desired-state.json" in texts["tsd-bugreport/files.txt"]
    again = tsctl(daemon.control, "bugreport", "-o", path.name, cwd=tmp_path)
    assert again.returncode == 1
    assert "--force" in again.stderr
    assert tsctl(daemon.control, "bugreport", "-fo", path.name, cwd=tmp_path).returncode == 0


def test_a_bug_report_needs_no_daemon(tmp_path: Path) -> None:
    done = tsctl(tmp_path / "none.sock", "bugreport", "-o", "r.tar.gz", "--json", cwd=tmp_path)
    assert done.returncode == 0
    told = json.loads(done.stdout)
    assert told["file"] == str(tmp_path / "r.tar.gz")
    assert {"doctor.json", "machine.txt"} <= {part["name"] for part in told["contents"]}


def test_a_program_ends_well_or_with_a_problem() -> None:
    assert execute(("sh", "-c", "echo out; echo err >&2"), 10.0).text == "out\n"
    assert execute(("sh", "-c", "echo err >&2; exit 3"), 10.0).errors == "err\n"
    assert execute(("sh", "-c", "exit 3"), 10.0).problem == "exit status 3"
    assert execute(("/no/such/program",), 10.0).problem == "No such file or directory"


def test_a_program_that_hangs_with_its_children_is_left(tmp_path: Path) -> None:
    # The child goes on and holds the output open: it ends when the test opens this.
    gate = tmp_path / "gate"
    os.mkfifo(gate)
    found = execute(("sh", "-c", f"echo begun; cat {gate} & exec cat {gate}"), 0.5)
    assert found.text == "begun\n"
    assert found.problem == "no answer within 0.5 s"
    gate.open("w").close()


def test_of_a_long_output_the_end_is_kept() -> None:
    found = execute(("sh", "-c", f"head -c {OUTPUT_BYTES} /dev/zero | tr '\\0' x; echo end"), 30.0)
    assert len(found.text) == OUTPUT_BYTES
    assert found.text.endswith("xend\n")
