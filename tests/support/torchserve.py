"""The command `torchserve` as scripts use it: in a folder, with a temporary folder of its own."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.support.daemon import UnixConnection, wait_for

COMMAND = (sys.executable, "-m", "tsd_torchserve")
ANY_PORT = """
inference_address=http://127.0.0.1:0
management_address=http://127.0.0.1:0
metrics_address=http://127.0.0.1:0
grpc_inference_port=0
grpc_management_port=0
"""
"""Addresses of a configuration under which several servers can be tested at once."""
COMMAND_S = 60.0


@dataclass
class TorchServe:
    """One folder to start in, with its store; `output` is all that was printed there."""

    folder: Path
    temporary: Path
    variables: dict[str, str] = field(default_factory=dict)

    @property
    def store(self) -> Path:
        return self.folder / "store"

    @property
    def output(self) -> Path:
        return self.folder / "output.txt"

    @property
    def pid_file(self) -> Path:
        return self.temporary / ".model_server.pid"

    @property
    def pid(self) -> int:
        return int(self.pid_file.read_text())

    @property
    def environment(self) -> dict[str, str]:
        own = {"TMPDIR": str(self.temporary), "TEMP": str(self.temporary)}
        return {**os.environ, **own, **self.variables}

    def start(self, *words: str) -> int:
        """Start in the background, with the store, until it says that it is up; its pid."""
        return self.start_without_store("--model-store", str(self.store), *words)

    def start_without_store(self, *words: str) -> int:
        """As `start`, for a configuration that names the store."""
        # What an earlier server has said is not this one's word.
        self.output.write_bytes(b"")
        assert self.run("--start", *words) == 0, self.printed
        wait_for(lambda: "Model server started." in self.printed or not is_alive(self.pid))
        assert "Model server started." in self.printed, self.printed
        return self.pid

    def run(self, *words: str) -> int:
        """Run the command to its end; its exit status."""
        with self.output.open("ab") as output:
            return subprocess.run(
                [*COMMAND, *words],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                cwd=self.folder,
                env=self.environment,
                timeout=COMMAND_S,
                check=False,
            ).returncode

    @property
    def printed(self) -> str:
        return self.output.read_text(errors="replace")

    def call(self, method: str, path: str, body: bytes | None = None) -> tuple[int, bytes]:
        """Ask at the control socket, as an operator may."""
        connection = UnixConnection(
            self.temporary / f".model_server.{self.pid}" / "run" / "control.sock"
        )
        try:
            connection.request(method, path, body)
            response = connection.getresponse()
            return response.status, response.read()
        finally:
            connection.close()

    def address(self, door: str) -> Any:
        """Where a door listens, once all are open."""
        doors = json.loads(self.call("GET", "/tsd/status")[1])["doors"]
        addresses = [one["address"] for one in doors if one["name"] == door]
        return next(address for address in addresses if not address.startswith("/"))


@contextlib.contextmanager
def torchserve(folder: Path, **variables: str) -> Iterator[TorchServe]:
    """A folder for the command; whatever it started is ended."""
    temporary = Path(tempfile.mkdtemp(prefix="tsd-test-"))
    server = TorchServe(folder, temporary, variables)
    server.store.mkdir(exist_ok=True)
    (folder / "any_port.properties").write_text(ANY_PORT)
    try:
        yield server
    finally:
        end(server)
        shutil.rmtree(temporary)


def end(server: TorchServe) -> None:
    """Kill what still runs."""
    with contextlib.suppress(FileNotFoundError, ProcessLookupError):
        pid = server.pid
        os.kill(pid, signal.SIGKILL)
        wait_for(lambda: not is_alive(pid))


def is_alive(pid: int) -> bool:
    """Whether it runs; one that waits for its parent to notice its end does not."""
    try:
        state = Path("/proc", str(pid), "stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return False
    return state != "Z"
