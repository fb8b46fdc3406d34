"""Programs beside the daemon: heard to their last word, ended with all that they started."""

from __future__ import annotations

import asyncio
import os
import select
import sys

import pytest

from tsd import programs

LONG_S = 60.0


def run(source: str, timeout_s: float = LONG_S) -> tuple[int | None, bytes]:
    heard = bytearray()
    command = [sys.executable, "-c", source]
    ended = programs.run(command, heard.extend, timeout_s, os.environ)
    return asyncio.run(ended), bytes(heard)


def test_words_and_status_come_whole() -> None:
    status, heard = run("import sys; print('x' * 200_000); print('no', file=sys.stderr); exit(3)")
    assert status == 3
    assert heard.startswith(b"x" * 200_000)
    assert heard.endswith(b"no\n")
    assert not programs.pids


def test_one_that_takes_too_long_is_ended() -> None:
    assert run("import time; time.sleep(600)", timeout_s=0.2) == (None, b"")


def test_one_that_closes_its_output_is_waited_for_all_the_same() -> None:
    status, heard = run("import os; print('last', flush=True); os.close(1); os.close(2); exit(4)")
    assert (status, heard) == (4, b"last\n")


def test_nobody_waits_for_what_it_leaves_behind() -> None:
    source = "import os, time\nif os.fork() == 0: time.sleep(600)\nelse: os._exit(5)"
    assert run(source) == (5, b"")


def test_one_that_cannot_be_started_is_told() -> None:
    with pytest.raises(FileNotFoundError):
        asyncio.run(programs.run(["/nowhere/python"], lambda _: None, LONG_S, {}))


def test_when_nobody_wants_it_any_more_it_ends_with_its_children() -> None:
    source = """
import os, time
os.fork()
os.write(1, b"%d\\n" % os.getpid())
time.sleep(600)
"""

    async def story() -> list[int]:
        heard = bytearray()
        both = asyncio.Event()

        def hear(part: bytes) -> None:
            heard.extend(part)
            if heard.count(b"\n") == 2:
                both.set()

        command = [sys.executable, "-c", source]
        running = asyncio.ensure_future(programs.run(command, hear, LONG_S, os.environ))
        await both.wait()
        watched = [os.pidfd_open(int(line)) for line in heard.splitlines()]
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running
        return watched

    for pidfd in asyncio.run(story()):
        ended, _, _ = select.select([pidfd], [], [], LONG_S)
        os.close(pidfd)
        assert ended
