"""What handlers print and log, line by line, into the log with model, version and worker.

The pipe is always read, so a worker never blocks on it; lines are cut and counted, so a flood
costs a bounded number of records a second."""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import Callable
from dataclasses import replace

from tsd.ipc.lines import MAX_HEAD_BYTES, Line, unpack_line

READ_BYTES = 65_536
LAST_READS = 16
LINES_AT_ONCE = 32
"""Each holds the loop for some 0.05 ms, on its way to the journal."""
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
        while data:
            data = self.feed_some(data, now)

    def feed_some(self, data: bytes, now: float) -> bytes:
        """The same, for as many lines as do not hold the loop; what is left of the bytes."""
        self._begin_second(now)
        at = 0
        for _ in range(min(LINES_AT_ONCE, self._lines_per_s - self._lines)):
            end = data.find(b"\n", at)
            if end < 0:
                break
            self._finish_line(data[at:end])
            at = end + 1
        left = data.count(b"\n", at)
        if left and self._lines < self._lines_per_s:
            return data[at:]
        if left:
            self._left_out += left
            self._partial, self._is_cut = b"", False
            at = data.rfind(b"\n") + 1
        self._add_partial(data[at:])
        return b""

    def end(self, now: float) -> None:
        """The pipe is closed: what was begun is a line, and what was left out is said."""
        if self._partial:
            self.feed(b"\n", now)
        self._say_left_out()

    def _begin_second(self, now: float) -> None:
        if int(now) != self._second:
            self._second, self._lines = int(now), 0
            self._say_left_out()

    def _finish_line(self, line: bytes) -> None:
        self._add_partial(line)
        whole, self._partial, is_cut, self._is_cut = self._partial, b"", self._is_cut, False
        self._lines += 1
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
        # Of what was read last; nothing more is read before it is fed.
        self._unfed = b""

    def watch(self) -> None:
        """Read whenever something is there, until `close`."""
        os.set_blocking(self._descriptor, False)
        self._loop.add_reader(self._descriptor, self._on_readable)

    def close(self) -> None:
        """The worker is gone: take what it left behind, bounded, and close.

        Not at end of file: a process that the handler left behind may hold the other end."""
        if self._descriptor < 0:
            return
        self._output.feed(self._unfed, self._loop.time())
        with contextlib.suppress(BlockingIOError):
            for _ in range(LAST_READS):
                self._output.feed(os.read(self._descriptor, READ_BYTES), self._loop.time())
        self._end()

    def _on_readable(self) -> None:
        try:
            self._unfed = os.read(self._descriptor, READ_BYTES)
        except BlockingIOError:
            return
        if self._unfed:
            self._loop.remove_reader(self._descriptor)
            self._feed()
        else:
            self._end()

    def _feed(self) -> None:
        """Line by line between what else the loop has to do, and then read on."""
        if self._descriptor < 0:
            return
        self._unfed = self._output.feed_some(self._unfed, self._loop.time())
        if self._unfed:
            self._loop.call_soon(self._feed)
        else:
            self._loop.add_reader(self._descriptor, self._on_readable)

    def _end(self) -> None:
        if self._descriptor >= 0:
            self._loop.remove_reader(self._descriptor)
            os.close(self._descriptor)
            self._descriptor = -1
            self._output.end(self._loop.time())
