"""What handlers print and log, line by line, into the log with model, version and worker.

The pipe is always read, so a worker never blocks on it; lines are cut and counted, so a flood
costs a bounded number of records a second."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from dataclasses import replace

from tsd.ipc.lines import MAX_HEAD_BYTES, Line, unpack_line

READ_BYTES = 65_536
LAST_READS = 16
CUT = " […]"


class WorkerOutput:
    """One pipe of one worker. `emit` gets whole lines, `suppressed` how many were left out."""

    def __init__(
        self,
        emit: Callable[[Line], None],
        suppressed: Callable[[int], None],
        lines_per_s: int,
        line_bytes: int,
    ) -> None:
        self._emit = emit
        self._suppressed = suppressed
        self._lines_per_s = lines_per_s
        self._line_bytes = line_bytes
        self._partial = b""
        self._is_cut = False
        self._second = 0
        self._lines = 0
        self._left_out = 0

    def feed(self, data: bytes, now: float) -> None:
        """Bytes as they came from the pipe."""
        *lines, rest = data.split(b"\n")
        for line in lines:
            self._finish_line(line, now)
        self._add_partial(rest)

    def end(self, now: float) -> None:
        """The pipe is closed: what was begun is a line, and what was left out is said."""
        if self._partial:
            self._finish_line(b"", now)
        self._say_left_out()

    def _finish_line(self, line: bytes, now: float) -> None:
        self._add_partial(line)
        whole, self._partial, is_cut, self._is_cut = self._partial, b"", self._is_cut, False
        if int(now) != self._second:
            self._second, self._lines = int(now), 0
            self._say_left_out()
        self._lines += 1
        if self._lines > self._lines_per_s:
            self._left_out += 1
            return
        said = unpack_line(whole)
        text = said.text.rstrip("\r")
        if is_cut or len(text) > self._line_bytes:
            text = text[: self._line_bytes] + CUT
        self._emit(replace(said, text=text))

    def _add_partial(self, data: bytes) -> None:
        room = MAX_HEAD_BYTES + self._line_bytes - len(self._partial)
        if len(data) > room:
            self._is_cut = True
        self._partial += data[:room]

    def _say_left_out(self) -> None:
        if self._left_out:
            self._suppressed(self._left_out)
            self._left_out = 0


class OutputPipe:
    """The reading end of a worker's standard output or standard error, watched by the loop."""

    def __init__(
        self, descriptor: int, output: WorkerOutput, loop: asyncio.AbstractEventLoop
    ) -> None:
        self._descriptor = descriptor
        self._output = output
        self._loop = loop

    def watch(self) -> None:
        """Read whenever something is there, until `close`."""
        os.set_blocking(self._descriptor, False)
        self._loop.add_reader(self._descriptor, self._read)

    def close(self) -> None:
        """The worker is gone: take what it left behind, bounded, and close.

        Not at end of file: a process that the handler left behind may hold the other end."""
        if self._descriptor < 0:
            return
        for _ in range(LAST_READS):
            if self._descriptor < 0 or not self._read():
                break
        self._end()

    def _read(self) -> bool:
        try:
            data = os.read(self._descriptor, READ_BYTES)
        except BlockingIOError:
            return False
        if data:
            self._output.feed(data, self._loop.time())
            return True
        self._end()
        return False

    def _end(self) -> None:
        if self._descriptor >= 0:
            self._loop.remove_reader(self._descriptor)
            os.close(self._descriptor)
            self._descriptor = -1
            self._output.end(self._loop.time())
