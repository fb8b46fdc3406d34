"""What the kernel is asked about processes: titles, parents, pidfds, locks and sizes.

Standard library only, because workers use it too. When to start or end a process is decided
elsewhere; so is what its end means."""

from __future__ import annotations

import contextlib
import ctypes
import errno
import fcntl
import os
import resource
import select
import signal
import time
from dataclasses import dataclass
from pathlib import Path

from tsd.errors import StartupError

PR_SET_PDEATHSIG = 1
PR_SET_NAME = 15
PR_SET_CHILD_SUBREAPER = 36

_libc = ctypes.CDLL(None, use_errno=True)


@dataclass(frozen=True)
class ExitStatus:
    """How a process ended: by a signal, or with an exit status."""

    signal: int | None = None
    code: int | None = None

    def __str__(self) -> str:
        if self.signal is None:
            return f"exit status {self.code}"
        return f"killed by {_signal_name(self.signal)}"


def set_title(text: str) -> None:
    """What `ps` shows for this process; cut where the original arguments left too little room."""
    title = text.encode("utf-8", "replace").replace(b"\0", b"")
    _prctl_text(PR_SET_NAME, title[:15])
    start, end = _argument_area()
    room = end - start
    # The kernel shows the area up to the first NUL only if its last byte is not NUL.
    if room >= 3:
        area = title[: room - 2].ljust(room - 1, b"\0") + b"\1"
        ctypes.memmove(start, area, room)


def become_subreaper() -> None:
    """Orphaned descendants become children of this process, so that it can wait for them."""
    _prctl(PR_SET_CHILD_SUBREAPER, 1)


def die_with_parent(parent_pid: int, *, wait_s: float = 5.0) -> None:
    """This process is killed when `parent_pid` ends; raises ProcessLookupError if it has ended.

    After a double fork the parent changes once, when the process between exits: the signal is
    tied to the parent of the moment it is asked for, so that is waited for."""
    deadline = time.monotonic() + wait_s
    # Read once a round: between two reads it may change, and then the wrong one is waited for.
    while (parent := os.getppid()) != parent_pid:
        _await_exit(parent, deadline, parent_pid)
    _prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent_pid:
        raise _parent_is_gone(parent_pid)


def open_pidfd(pid: int) -> int:
    """A descriptor that names this very process, is readable at its end, and survives no exec."""
    return os.pidfd_open(pid)


def send_signal(pidfd: int, number: signal.Signals) -> bool:
    """Whether the process was still there to get the signal."""
    try:
        signal.pidfd_send_signal(pidfd, number)
    except ProcessLookupError:
        return False
    return True


def wait_pidfd(pidfd: int) -> ExitStatus | None:
    """How the child ended, which reaps it; None while it runs."""
    # Typeshed says never None; with WNOHANG it is, while the child runs.
    ended: os.waitid_result | None = os.waitid(os.P_PIDFD, pidfd, os.WEXITED | os.WNOHANG)
    if ended is None:
        return None
    if ended.si_code == os.CLD_EXITED:
        return ExitStatus(code=ended.si_status)
    return ExitStatus(signal=ended.si_status)


def reap_all_but(known: set[int]) -> None:
    """Reap children that ended and that nobody waits for: orphans that came to the subreaper."""
    children = Path(f"/proc/self/task/{os.getpid()}/children").read_text().split()
    for pid in map(int, children):
        if pid not in known:
            with contextlib.suppress(ChildProcessError):
                os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG)


def lock_directory(path: Path) -> int:
    """Own a directory, made if missing, for as long as the returned descriptor is open."""
    descriptor = _open_lock(path)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        holder = os.read(descriptor, 32).decode("ascii", "replace").strip() or "unknown"
        os.close(descriptor)
        raise StartupError(
            f"another tsd, process {holder}, owns {path}",
            why="one daemon at a time owns a directory and what is in it",
            fix="stop that daemon, or choose another directory: --runtime-dir, --state-dir",
        ) from None
    os.ftruncate(descriptor, 0)
    os.write(descriptor, b"%d\n" % os.getpid())
    return descriptor


def thread_count() -> int:
    """The threads of this process as the kernel counts them, Python's and others."""
    return sum(1 for _ in Path("/proc/self/task").iterdir())


def rss_bytes(pid: int) -> int:
    """The resident memory of a process; 0 when it is gone."""
    try:
        fields = Path(f"/proc/{pid}/statm").read_bytes().split()
    except OSError:
        return 0
    return int(fields[1]) * resource.getpagesize()


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


def _argument_area() -> tuple[int, int]:
    """Where the kernel keeps this process's arguments: fields 48 and 49 of proc(5)'s stat."""
    # The name, field 2, is in parentheses and may hold spaces: count from behind it.
    fields = Path("/proc/self/stat").read_bytes().rpartition(b")")[2].split()
    return int(fields[45]), int(fields[46])


def _await_exit(parent: int, deadline: float, expected: int) -> None:
    """Return once the present parent has exited: the kernel has re-parented us by then."""
    try:
        pidfd = os.pidfd_open(parent)
    except OSError:
        # It is between its exit and our new parent (ESRCH, EINVAL; its number may read 0): look
        # again. That takes microseconds; what stays so is a parent outside this pid namespace.
        if time.monotonic() > deadline:
            raise _parent_is_gone(expected) from None
        os.sched_yield()
        return
    try:
        poll = select.poll()
        poll.register(pidfd, select.POLLIN)
        if not poll.poll(max(0.0, deadline - time.monotonic()) * 1000):
            raise _parent_is_gone(expected)
    finally:
        os.close(pidfd)


def _parent_is_gone(expected: int) -> ProcessLookupError:
    text = f"process {expected} is not the parent of process {os.getpid()}, or no longer"
    return ProcessLookupError(errno.ESRCH, text)


def _open_lock(directory: Path) -> int:
    """Make the directory if need be; whoever made it could take our sockets' names, so ask who."""
    user = os.geteuid()
    flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
    try:
        directory.mkdir(mode=0o755 if user == 0 else 0o700, parents=True, exist_ok=True)
        owner = directory.lstat().st_uid
        if owner in (0, user):
            return os.open(directory / "lock", flags, 0o600)
    except OSError as error:
        raise StartupError(
            f"{directory} cannot be used as runtime directory",
            why=f"{error.strerror}: {error.filename}",
            fix="mend that, or choose another directory with --runtime-dir",
        ) from None
    raise StartupError(
        f"{directory} cannot be used as runtime directory",
        why=f"it belongs to user {owner}, who could put other sockets into it",
        fix="choose another directory with --runtime-dir",
    )


def _prctl(option: int, value: int) -> None:
    _check(_libc.prctl(option, ctypes.c_ulong(value), *_ZEROS))


def _prctl_text(option: int, text: bytes) -> None:
    _check(_libc.prctl(option, ctypes.c_char_p(text), *_ZEROS))


# prctl takes four unsigned longs; what is not used must be zero.
_ZEROS = (ctypes.c_ulong(0),) * 3


def _check(result: int) -> None:
    if result != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
