"""A worker of several processes that act together: the ranks of one model that is divided.

To worker_handle.py a group looks like one process. What it is told, every rank is told; ready it
is, and a batch it has answered, when every rank has said so, and the words are those of rank 0.
The end of one rank is the end of all. What the ranks find in their environment, and how they find
each other, is in worker/ranks.py."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from dataclasses import replace
from functools import partial
from typing import Any

from tsd.errors import ProtocolError, StartFailed
from tsd.ipc.arguments import WorkerArguments
from tsd.ipc.layout import BATCHES, Header, NoticeKind, unpack_header, unpack_text
from tsd.process import ExitStatus
from tsd.serving.fork_server import ForkServer
from tsd.serving.worker_process import OnExit, OnNotice, WorkerProcess
from tsd.settings import LogSettings

# What counts once all ranks have said it.
TOGETHER = (NoticeKind.READY, NoticeKind.ANSWERS, NoticeKind.BODIES)
Words = tuple[Header, bytes]


class Unison:
    """What counts once every rank has said it, in the words of rank 0: first that it is ready."""

    def __init__(self, ranks: int) -> None:
        # How often that is due, has been heard of each rank, and was complete.
        self._due = 1
        self._heard = [0] * ranks
        self._complete = 0
        self._words: Words | None = None

    @property
    def is_complete(self) -> bool:
        """Whether nothing is due any more."""
        return self._complete == self._due

    def expect(self) -> None:
        """A batch is given: its answers are due."""
        self._due += 1

    def hear(self, rank: int, words: Words) -> Words | None:
        """One rank has said it; the words of rank 0 if it was the last. Raises ProtocolError."""
        self._heard[rank] += 1
        if self._heard[rank] > self._due:
            raise ProtocolError("answers to no batch")
        if rank == 0:
            self._words = words
        if min(self._heard) == self._complete:
            return None
        self._complete += 1
        return self._words


class WorkerGroup:
    """Has one batch at a time. The callbacks are those of WorkerProcess, for all ranks as one."""

    def __init__(
        self, ranks: int, log: Any, log_settings: LogSettings, on_notice: OnNotice, on_exit: OnExit
    ) -> None:
        self._log = log
        self._on_notice = on_notice
        self._on_exit = on_exit
        self._members = [
            WorkerProcess(
                log.bind(rank=rank),
                log_settings,
                partial(self._on_rank_notice, rank),
                partial(self._on_rank_exit, rank),
            )
            for rank in range(ranks)
        ]
        self._alive: set[int] = set()
        self._is_whole = False
        self._all_gone = asyncio.Event()
        self._exit_text = ""
        self.exit_status = ExitStatus()
        self._meeting_port: socket.socket | None = None
        self._unison = Unison(ranks)
        self._has_failed = False
        self._stop_notice = b""
        self._was_told_to_stop = False

    @property
    def pid(self) -> int:
        """The process of rank 0; 0 until all are forked."""
        return self._members[0].pid if self._is_whole else 0

    @property
    def pids(self) -> tuple[int, ...]:
        """The processes of all ranks that are forked."""
        return tuple(pid for member in self._members for pid in member.pids)

    async def fork(
        self,
        fork_server: ForkServer,
        arguments: WorkerArguments,
        segments: tuple[int, int],
    ) -> None:
        """Have all ranks forked; none is waited for, as they wait for each other.

        Raises as WorkerProcess, and StartFailed where one ends before the last is there."""
        self._meeting_port = reserved_port()
        port = self._meeting_port.getsockname()[1]
        try:
            for rank, member in enumerate(self._members):
                # Only rank 0 writes answers; the others are given nothing that they could write to.
                lent = segments if rank == 0 else (segments[0], segments[0])
                await member.fork(fork_server, of_rank(arguments, rank, port), lent)
                self._alive.add(rank)
                if self._exit_text:
                    raise StartFailed("A rank ended before all were there.", why=self._exit_text)
        except BaseException:
            await self._end_forked()
            raise
        self._is_whole = True

    def send(self, notice: bytes) -> None:
        """Tell every rank. Raises as WorkerProcess."""
        kind = unpack_header(notice).kind
        if kind in BATCHES:
            self._unison.expect()
        if kind is NoticeKind.STOP and not self._unison.is_complete:
            # A rank that is done could leave one alone that still needs it.
            self._stop_notice = notice
            return
        self._was_told_to_stop |= kind is NoticeKind.STOP
        for member in self._members[:1] if kind is NoticeKind.GRANT else self._members:
            member.send(notice)

    def kill(self, reason: str) -> None:
        """End all of them now."""
        for rank in self._alive:
            self._members[rank].kill(reason)

    def kill_after(self, delay_s: float, reason: str) -> None:
        """End those that are still there then."""
        for rank in self._alive:
            self._members[rank].kill_after(delay_s, reason)

    def end_hung(self, request_ids: str) -> None:
        """SIGTERM for all, and SIGKILL for whom that does not end."""
        for rank in self._alive:
            self._members[rank].end_hung(request_ids)

    def _on_rank_notice(self, rank: int, header: Header, notice: bytes) -> None:
        if header.kind in TOGETHER:
            self._on_said_together(rank, header, notice)
        elif header.kind is NoticeKind.FAILED:
            self._on_failed(rank, header, notice)
        elif rank == 0 or header.kind is NoticeKind.METRICS:
            self._on_notice(header, notice)

    def _on_said_together(self, rank: int, header: Header, notice: bytes) -> None:
        words = self._unison.hear(rank, (header, notice))
        if words is None:
            return
        self._on_notice(*words)
        if self._stop_notice:
            with contextlib.suppress(OSError):
                self.send(self._stop_notice)

    def _on_failed(self, rank: int, header: Header, notice: bytes) -> None:
        """The first one is the cause; others fail because it is gone."""
        if self._has_failed:
            self._log.warning("rank %d failed, too", rank, exception=unpack_text(notice))
            return
        self._has_failed = True
        self._on_notice(header, notice)

    def _on_rank_exit(self, rank: int, how: str) -> None:
        self._alive.discard(rank)
        if not self._exit_text:
            self._exit_text = f"rank {rank}: {how}"
            self.exit_status = self._members[rank].exit_status
        if not self._was_told_to_stop:
            self.kill(f"rank {rank} has ended: {how}")
        if self._alive:
            return
        self._close_port()
        self._all_gone.set()
        if self._is_whole:
            self._on_exit(self._exit_text)

    async def _end_forked(self) -> None:
        self.kill("not all ranks could be started")
        if self._alive:
            await self._all_gone.wait()
        self._close_port()

    def _close_port(self) -> None:
        if self._meeting_port is not None:
            self._meeting_port.close()


def of_rank(arguments: WorkerArguments, rank: int, port: int) -> WorkerArguments:
    """The arguments of one process of a worker: on GPUs each rank has one of those it sees."""
    asked = replace(arguments, rank=rank, meeting_port=port)
    if arguments.gpu_id is None:
        return asked
    return replace(asked, device=f"cuda:{rank}", gpu_id=rank)


def reserved_port() -> socket.socket:
    """A free port of this machine that is given to nobody else while the socket is open.

    Bound and never listening, so that rank 0 may listen there."""
    reserved = socket.socket()
    reserved.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    reserved.bind(("127.0.0.1", 0))
    return reserved
