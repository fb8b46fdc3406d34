"""A program that runs beside the daemon, to its end: bounded in time, and killed whole."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import subprocess
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from pathlib import Path

# No less than a pipe holds.
READ_BYTES = 65_536
GONE_S = 5.0

pids: set[int] = set()
"""Of those that run: they are waited for here, and not to be reaped as orphans."""


async def run(
    command: Sequence[str | Path],
    on_output: Callable[[bytes], None],
    timeout_s: float,
    environment: Mapping[str, str],
) -> int | None:
    """Run it, with its words going to `on_output`; its exit status, None when its time was up.

    Raises OSError when it cannot be started. Cancelled, it is killed."""
    read_end, write_end = os.pipe2(os.O_CLOEXEC)
    os.set_blocking(read_end, False)
    try:
        started = _start(command, write_end, environment)
    except OSError:
        os.close(read_end)
        raise
    finally:
        os.close(write_end)
    try:
        async with _heard(read_end, on_output):
            return await wait_for(started, timeout_s)
    finally:
        os.close(read_end)


def _start(
    command: Sequence[str | Path], output: int, environment: Mapping[str, str]
) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        command,
        cwd="/",
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=output,
        stderr=output,
        start_new_session=True,
    )


async def wait_for(started: subprocess.Popen[bytes], timeout_s: float) -> int | None:
    """Its exit status when it has ended by itself; None when its time was up."""
    pids.add(started.pid)
    pidfd = os.pidfd_open(started.pid)
    ended = asyncio.Event()
    loop = asyncio.get_running_loop()
    loop.add_reader(pidfd, ended.set)
    try:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(timeout_s):
                await ended.wait()
        return started.wait() if ended.is_set() else None
    finally:
        try:
            await _end(started, ended)
        finally:
            loop.remove_reader(pidfd)
            os.close(pidfd)
            pids.discard(started.pid)


async def _end(started: subprocess.Popen[bytes], ended: asyncio.Event) -> None:
    """Kill it with all that it has started, be it still there or left behind.

    To free its memory takes a while, and a driver may hold it for good: then it is reaped as an
    orphan, should it ever end."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(started.pid, signal.SIGKILL)
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(GONE_S):
            await ended.wait()
    started.poll()


@contextlib.asynccontextmanager
async def _heard(read_end: int, on_output: Callable[[bytes], None]) -> AsyncIterator[None]:
    """What is written into the pipe is passed on while this is open, and what is left at its end.

    Descendants that go on writing after the program's end are not waited for."""
    loop = asyncio.get_running_loop()
    loop.add_reader(read_end, _pass_on, read_end, on_output)
    try:
        yield
    finally:
        loop.remove_reader(read_end)
    # Once: who goes on writing could keep the loop here for ever.
    _pass_on(read_end, on_output)


def _pass_on(read_end: int, on_output: Callable[[bytes], None]) -> None:
    try:
        part = os.read(read_end, READ_BYTES)
    except BlockingIOError:
        return
    if part:
        on_output(part)
    else:
        # All who could write have gone; a loop that still watched would turn and turn.
        asyncio.get_running_loop().remove_reader(read_end)
