"""The file that says which process the server is, where TorchServe has it."""

import os
import select
import signal
import tempfile
from pathlib import Path


def path() -> Path:
    """One for each temporary folder, and so one server."""
    return Path(tempfile.gettempdir()) / ".model_server.pid"


def read() -> int | None:
    """The server's number while it runs; a file that a dead one left is removed."""
    try:
        pid = int(path().read_text().split("\n", 1)[0])
    except (FileNotFoundError, ValueError):
        return None
    command = command_of(pid)
    if not command:
        print("Removing orphan pid file.", flush=True)
        remove()
    # Another program may have that number by now, or this one.
    return pid if b"tsd" in command and pid != os.getpid() else None


def command_of(pid: int) -> bytes:
    """The command line of a process; empty where it has ended, waited for or not."""
    try:
        return Path("/proc", str(pid), "cmdline").read_bytes()
    except OSError:
        return b""


def write(pid: int) -> None:
    """Note the server; what lies there is replaced, never followed."""
    remove()
    descriptor = os.open(path(), os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o644)
    with os.fdopen(descriptor, "w") as file:
        file.write(str(pid))


def remove() -> None:
    path().unlink(missing_ok=True)


def terminate(pid: int, timeout_s: float) -> bool:
    """Ask the process to end; whether it did within the time. Raises ProcessLookupError."""
    descriptor = os.pidfd_open(pid)
    try:
        signal.pidfd_send_signal(descriptor, signal.SIGTERM)
        ended, _, _ = select.select([descriptor], [], [], timeout_s)
        return bool(ended)
    finally:
        os.close(descriptor)
