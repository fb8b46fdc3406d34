"""The fork server's program: import torch once, then only fork.

It never runs an operator and never touches CUDA; before each fork it makes sure that it has one
thread. Workers are forked twice, so that their parent is the daemon (the subreaper), which
watches them. What a worker then does is in runner.py."""

from __future__ import annotations

import gc
import importlib
import importlib.util
import json
import os
import platform
import socket
import sys
from pathlib import Path

import torch

from tsd import process
from tsd.ipc.arguments import (
    WORKER_DESCRIPTORS,
    WorkerArguments,
    pack_reply,
    unpack_arguments,
)
from tsd.worker import runner

MAX_MESSAGE_BYTES = 262_144
MAX_TROUBLE_BYTES = 512

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
    while True:
        message, descriptors, _, _ = socket.recv_fds(
            channel, MAX_MESSAGE_BYTES, len(WORKER_DESCRIPTORS)
        )
        if not message:
            return
        channel.send(answer(unpack_arguments(message), descriptors))
        for descriptor in descriptors:
            os.close(descriptor)


def prepare() -> None:
    """Make this process a good parent: one thread, everything imported, nothing left to collect."""
    carry_ts_package()
    for name in PRELOADED:
        try:
            importlib.import_module(name)
        except ImportError as error:
            print(f"the runtime has no {name}: {error}", flush=True)  # noqa: T201 (goes to the log)
    torch.set_num_threads(1)
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


def answer(arguments: WorkerArguments, descriptors: list[int]) -> bytes:
    """Fork one worker; the reply to the daemon."""
    try:
        refuse_unsafe_fork(len(descriptors))
        return pack_reply(arguments.request_id, *fork_worker(arguments, descriptors))
    except (OSError, RuntimeError) as error:
        return pack_reply(arguments.request_id, 0, str(error))


def refuse_unsafe_fork(descriptors: int) -> None:
    """Raise RuntimeError where a fork would make a broken worker."""
    if descriptors != len(WORKER_DESCRIPTORS):
        raise RuntimeError(f"{descriptors} descriptors came, {len(WORKER_DESCRIPTORS)} are needed")
    threads = process.thread_count()
    if threads != 1:
        raise RuntimeError(f"the fork server has {threads} threads: a fork could hang its child")
    if torch.cuda.is_initialized():  # type: ignore[no-untyped-call]
        raise RuntimeError("the fork server has touched CUDA: a forked worker could not use it")


def fork_worker(arguments: WorkerArguments, descriptors: list[int]) -> tuple[int, str]:
    """The process id of a new worker, whose parent is the daemon, and why it is in no group."""
    read_end, write_end = os.pipe()
    intermediate = os.fork()
    if intermediate == 0:
        trouble = join_group(arguments.cgroup)
        pid = _fork_again()
        if pid:
            os.write(write_end, f"{pid} {trouble}".encode(errors="replace")[:MAX_TROUBLE_BYTES])
            os._exit(0)
        # The pipe's ends, and all else that is open here, are closed by the runner.
        runner.main(arguments, descriptors)
    os.close(write_end)
    reply = os.read(read_end, MAX_TROUBLE_BYTES)
    os.close(read_end)
    os.waitpid(intermediate, 0)
    if not reply:
        raise RuntimeError("no process could be forked (is a process limit reached?)")
    number, _, trouble = reply.decode(errors="replace").partition(" ")
    return int(number), trouble


def join_group(folder: str) -> str:
    """Go where the worker is to be before it is there: nothing that it starts is then elsewhere,
    and nobody waits for the kernel, which takes its time to move a process. What went wrong."""
    try:
        if folder:
            Path(folder, "cgroup.procs").write_text("0")
    except OSError as error:
        return str(error)
    return ""


def _fork_again() -> int:
    try:
        return os.fork()
    except OSError:
        os._exit(1)
