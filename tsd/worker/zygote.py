"""The fork server's program: import torch once, then only fork.

It never runs an operator and never touches CUDA; before each fork it makes sure that it has one
thread. What it forks is in spare.py; what a worker then does is in runner.py."""

from __future__ import annotations

import contextlib
import gc
import importlib
import importlib.util
import json
import logging
import os
import platform
import socket
import sys
from collections.abc import Sequence
from pathlib import Path

import torch

from tsd import process
from tsd.ipc.arguments import WORKER_DESCRIPTORS, pack_reply, unpack_arguments
from tsd.worker.spare import MAX_MESSAGE_BYTES, Spare, fork_spare

# Imported before the first fork where the runtime has them: every worker gets them for nothing.
PRELOADED = (
    *("numpy", "orjson", "PIL.Image", "multipart"),
    *("ts.torch_handler.image_classifier", "tsd.worker.tensor_handler"),
)


def main(channel_fd: int) -> None:
    """Serve forks until the daemon closes its end."""
    channel = socket.socket(fileno=channel_fd)
    process.set_title(f"tsd fork server: {sys.executable}")
    prepare()
    hello = {"torch": torch.__version__, "python": platform.python_version()}
    channel.send(json.dumps(hello).encode())
    workers = Workers()
    while True:
        message, descriptors, _, _ = socket.recv_fds(
            channel, MAX_MESSAGE_BYTES, len(WORKER_DESCRIPTORS)
        )
        if not message:
            return
        channel.send(workers.answer(message, descriptors))
        for descriptor in descriptors:
            os.close(descriptor)
        workers.prepare_next()


def prepare() -> None:
    """Make this process a good parent: one thread, everything imported, nothing left to collect."""
    carry_ts_package()
    for name in PRELOADED:
        try:
            importlib.import_module(name)
        except ImportError as error:
            print(f"the runtime has no {name}: {error}", flush=True)  # noqa: T201 (goes to the log)
    torch.set_num_threads(1)
    # That of most workers, which then need not change every logger that there is.
    logging.getLogger().setLevel(logging.INFO)
    # Frozen objects are never visited by a worker's collector, so their pages stay shared.
    gc.collect()
    gc.freeze()


def carry_ts_package() -> None:
    """Give archives their `ts`: it exists on the worker's path only, under that name."""
    folder = Path(__file__).parent / "ts"
    spec = importlib.util.spec_from_file_location(
        "ts", folder / "__init__.py", submodule_search_locations=[str(folder)]
    )
    if spec is None or spec.loader is None:
        raise ImportError(f"no ts package in {folder}")
    module = importlib.util.module_from_spec(spec)
    sys.modules["ts"] = module
    spec.loader.exec_module(module)


class Workers:
    """Gives each request a worker; the next one's process is forked while the last one loads."""

    def __init__(self) -> None:
        self._spare: Spare | None = None

    def answer(self, message: bytes, descriptors: Sequence[int]) -> bytes:
        """Make one worker; the reply to the daemon."""
        try:
            return self._become(message, descriptors)
        except (OSError, RuntimeError) as error:
            return pack_reply(unpack_arguments(message).request_id, 0, str(error))

    def prepare_next(self) -> None:
        """Have a process at hand; why there is none is told when one is needed."""
        with contextlib.suppress(OSError, RuntimeError):
            refuse_unsafe_fork()
            self._spare = fork_spare()

    def _become(self, message: bytes, descriptors: Sequence[int]) -> bytes:
        if len(descriptors) != len(WORKER_DESCRIPTORS):
            raise RuntimeError(
                f"{len(descriptors)} descriptors came instead of {len(WORKER_DESCRIPTORS)}"
            )
        spare, self._spare = self._spare, None
        reply = spare.become(message, descriptors) if spare else b""
        if reply:
            return reply
        # None was at hand, or something has killed it.
        refuse_unsafe_fork()
        reply = fork_spare().become(message, descriptors)
        if not reply:
            raise RuntimeError("no process could be forked (is a process limit reached?)")
        return reply


def refuse_unsafe_fork() -> None:
    """Raise RuntimeError where a fork would make a broken worker."""
    threads = process.thread_count()
    if threads != 1:
        raise RuntimeError(f"the fork server has {threads} threads: a fork could hang its child")
    if torch.cuda.is_initialized():  # type: ignore[no-untyped-call]
        raise RuntimeError("the fork server has touched CUDA: a forked worker could not use it")
