"""The model called in-process: no server, no bytes moved.

Started with a handler's file, a body and its content type. For each line `ROWS SECONDS` that it
reads, it calls the handler with batches of so many rows for so long and prints a line of JSON.
JSON bodies are decoded for each row, as a server would have to."""

from __future__ import annotations

import importlib.util
import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import orjson

from benchmarks.load import summary

Handle = Callable[[list[dict[str, Any]] | None, object], list[bytes]]


def main(handler: str, body_file: str, content_type: str) -> None:
    handle = load_handler(Path(handler))
    body = Path(body_file).read_bytes()
    decode = orjson.loads if content_type == "application/json" else bytes
    print("ready", flush=True)
    for line in sys.stdin:
        rows, seconds = line.split()

        def call(count: int = int(rows)) -> None:
            handle([{"body": decode(body)} for _ in range(count)], None)

        print(json.dumps(run(call, int(rows), float(seconds))), flush=True)


def load_handler(path: Path) -> Handle:
    """The handler, made ready as a worker would."""
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    handle: Handle = module.handle
    handle(None, None)
    return handle


def run(call: Callable[[], None], rows: int, seconds: float) -> dict[str, float]:
    """Call over and over; what came of it, in the words of load.py."""
    took_us: list[float] = []
    cpu_before, begun = time.process_time(), time.perf_counter()
    now, end = begun, begun + seconds
    while now < end:
        before = now
        call()
        now = time.perf_counter()
        took_us.append(1e6 * (now - before))
    figures = summary(took_us, 1e6 * (now - begun), failed=0)
    return figures | {
        "requests": rows * len(took_us),
        "cpu_s": time.process_time() - cpu_before,
    }


if __name__ == "__main__":
    main(*sys.argv[1:])
