"""Start and stop a server from a test: the command `torchserve`, and what it prints as a queue."""

from __future__ import annotations

import contextlib
import subprocess
import sys
import threading
from collections.abc import Iterable
from queue import Empty, Full, Queue
from typing import IO, Any

READY = "Model server started"
KEPT_LINES = 1000
MANAGEMENT = "http://localhost:8081/models"
COMMAND = (sys.executable, "-m", "tsd_torchserve")

Lines = Queue["str | None"]


def start(  # noqa: PLR0913 (TorchServe's signature)
    model_store: str | None = None,
    snapshot_file: str | None = None,
    no_config_snapshots: bool = False,  # noqa: FBT001, FBT002
    plugin_folder: str | None = None,
    disable_token: bool = False,  # noqa: FBT001, FBT002
    models: str | None = None,
    enable_model_api: bool = False,  # noqa: FBT001, FBT002
) -> Lines:
    """Start a server anew; return when it is up, with the queue of what it prints from then on.

    The queue ends with None when the server has ended. Lines that nobody takes are dropped."""
    stop()
    values = {
        "--model-store": model_store,
        "--plugins-path": plugin_folder,
        "--ts-config": snapshot_file,
        "--models": models,
    }
    flags = {
        "--no-config-snapshots": no_config_snapshots,
        "--disable-token-auth": disable_token,
        "--enable-model-api": enable_model_api,
    }
    words = [word for option, value in values.items() if value for word in (option, value)]
    words += [option for option, is_set in flags.items() if is_set]
    process = subprocess.Popen(
        [*COMMAND, "--start", *words],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    assert process.stdout is not None
    for line in process.stdout:
        _print(line)
        if READY in line:
            break
    # What was started in the background prints on; the command itself is done.
    process.wait()
    lines: Lines = Queue(KEPT_LINES)
    threading.Thread(target=_follow, args=(process.stdout, lines), daemon=True).start()
    return lines


def stop(wait: bool = True) -> None:  # noqa: FBT001, FBT002 (TorchServe's signature)
    """Stop the server, if one runs; return when it has ended, unless told not to wait."""
    subprocess.run([*COMMAND, "--stop", *(["--foreground"] if wait else [])], check=False)


def register_model_with_params(params: Iterable[tuple[str, str]] | dict[str, str]) -> Any:
    """Ask the server on this machine to register a model; the answer, as `requests` has it."""
    import requests

    return requests.post(MANAGEMENT, params=params)


def register_model(model_name: str, url: str) -> Any:
    """Register a model with one worker, and wait for it."""
    asked = {"model_name": model_name, "url": url, "initial_workers": "1", "synchronous": "true"}
    return register_model_with_params(asked)


def _follow(output: IO[str], lines: Lines) -> None:
    with output:
        for line in output:
            _print(line)
            with contextlib.suppress(Full):
                lines.put_nowait(line)
    # The end is told even to whom has not read the rest.
    while lines.full():
        with contextlib.suppress(Empty):
            lines.get_nowait()
    lines.put(None)


def _print(line: str) -> None:
    sys.stdout.write(line)
    sys.stdout.flush()
