"""A worker before it is known which one: forked ahead of need, it waits to be told.

To fork costs more than all that a small model's start does besides; so the next worker's process
is made while nobody waits for it. It is forked twice, so that its parent is the daemon (the
subreaper), which watches it. When that is done is in zygote.py; what it becomes, in runner.py."""

from __future__ import annotations

import os
import socket
import traceback
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

import torch

from tsd import process
from tsd.ipc.arguments import WORKER_DESCRIPTORS, pack_reply, unpack_arguments
from tsd.worker import runner

MAX_MESSAGE_BYTES = 262_144
MAX_REPLY_BYTES = 4_096
TITLE = "tsd spare worker"


class Spare:
    """The fork server's side of it. Nothing else holds the other end: it ends with the last."""

    def __init__(self, channel: socket.socket) -> None:
        self._channel = channel

    def become(self, message: bytes, descriptors: Sequence[int]) -> bytes:
        """Have it be that worker; its reply to the daemon, empty when it is gone."""
        try:
            with self._channel:
                socket.send_fds(self._channel, [message], list(descriptors))
                return self._channel.recv(MAX_REPLY_BYTES)
        except ConnectionError:
            return b""


def fork_spare() -> Spare:
    """A new one. Raises OSError where not even one process can be forked."""
    daemon_pid = os.getppid()
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with theirs:
        intermediate = os.fork()
        if intermediate == 0:
            if _fork_again():
                os._exit(0)
            _live(theirs, daemon_pid)
    os.waitpid(intermediate, 0)
    return Spare(ours)


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


def _live(channel: socket.socket, daemon_pid: int) -> NoReturn:
    """The whole life of the forked process."""
    try:
        runner.close_all_but(channel.fileno())
        process.die_with_parent(daemon_pid)
        process.set_title(TITLE)
        # A forked generator would give every worker the same numbers.
        torch.default_generator.seed()
        message, descriptors, _, _ = socket.recv_fds(
            channel, MAX_MESSAGE_BYTES, len(WORKER_DESCRIPTORS)
        )
        if message:
            arguments = unpack_arguments(message)
            trouble = join_group(arguments.cgroup)
            channel.send(pack_reply(arguments.request_id, os.getpid(), trouble[:512]))
            channel.close()
            runner.main(arguments, descriptors)
    except Exception:  # noqa: BLE001 (nothing may get back to the fork server's own loop)
        traceback.print_exc()
    finally:
        os._exit(1)
