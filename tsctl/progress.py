"""The phases of a change as the operator sees them while waiting.

On a terminal one line is rewritten, and its seconds go on between two records of the daemon;
elsewhere a plain line is written whenever the phase changes."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import TextIO

from tsctl.failure import Json
from tsctl.format import cell

REDRAW_S = 0.2
# A line that wraps could not be rewritten.
LINE_WIDTH = 79
CLEAR_LINE = "\r\x1b[K"


def phase_text(record: Json) -> str:
    """A record of the daemon in words, without its time."""
    words = [cell(record.get("phase"))]
    if record.get("model"):
        words.append("/".join(cell(record[k]) for k in ("model", "version") if record.get(k)))
    if record.get("wanted"):
        words.append(f"({cell(record.get('ready'))} of {cell(record['wanted'])} workers ready)")
    if record.get("line"):
        words.append(cell(record["line"]))
    return " ".join(words)


class PlainProgress:
    """A line for each phase."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._phase: tuple[object, ...] = ()

    def show(self, record: Json) -> None:
        phase = (record.get("phase"), record.get("line"))
        if phase != self._phase:
            self._phase = phase
            print(phase_text(record), file=self._stream, flush=True)


class LiveProgress:
    """One line that is rewritten in place until it is closed."""

    def __init__(self, stream: TextIO, clock: Callable[[], float] = time.monotonic) -> None:
        self._stream = stream
        self._clock = clock
        self._text = ""
        self._began_at = 0.0

    def show(self, record: Json) -> None:
        self._text = phase_text(record)
        self._began_at = self._clock() - float(record.get("elapsed_s") or 0.0)
        self.draw()

    def draw(self) -> None:
        if self._text:
            seconds = f", {self._clock() - self._began_at:.1f} s"
            self._write(CLEAR_LINE + self._text[: LINE_WIDTH - len(seconds)] + seconds)

    def close(self) -> None:
        if self._text:
            self._write(CLEAR_LINE)

    def _write(self, text: str) -> None:
        self._stream.write(text)
        self._stream.flush()


class Redraw:
    """Draws a live line again and again, beside the thread that waits for the daemon."""

    def __init__(self, live: LiveProgress) -> None:
        self._live = live
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._draw, daemon=True)

    def __enter__(self) -> None:
        self._thread.start()

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()
        self._live.close()

    def _draw(self) -> None:
        while not self._ended.wait(REDRAW_S):
            self._live.draw()
