"""A worker of several processes, from inside one of them: what it finds, and what it may say.

Handlers find the environment that torchrun gives, so that `torch.distributed.init_process_group`
needs no arguments. The store where ranks meet is served by rank 0, on the loopback interface."""

from __future__ import annotations

import os
import socket
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch

from tsd.ipc.arguments import WorkerArguments
from tsd.ipc.layout import NoticeKind, Outcome, pack_notice
from tsd.worker.codec import Answer, Bodies, answers_with
from tsd.worker.outbox import Outbox

if TYPE_CHECKING:
    # Only ranks need it, and not every build of torch has it.
    from torch.distributed import TCPStore  # type: ignore[attr-defined]  # torch names no exports

HOST = "127.0.0.1"
BACKLOG = 128


def rank_variables(arguments: WorkerArguments) -> dict[str, str]:
    """What torchrun puts into the environment of a process."""
    rank, ranks = str(arguments.rank), str(arguments.ranks)
    return {
        **dict.fromkeys(("RANK", "LOCAL_RANK", "ROLE_RANK"), rank),
        **dict.fromkeys(("WORLD_SIZE", "LOCAL_WORLD_SIZE", "ROLE_WORLD_SIZE"), ranks),
        "GROUP_RANK": "0",
        "GROUP_WORLD_SIZE": "1",
        "ROLE_NAME": "default",
        "MASTER_ADDR": HOST,
        "MASTER_PORT": str(arguments.meeting_port),
        "OMP_NUM_THREADS": str(arguments.threads),
        "TORCHELASTIC_RUN_ID": f"{arguments.model_name}_{arguments.number}",
        "TORCHELASTIC_RESTART_COUNT": "0",
        "TORCHELASTIC_MAX_RESTARTS": "0",
        # All ranks are clients of the store at MASTER_PORT; none makes one of its own.
        "TORCHELASTIC_USE_AGENT_STORE": "True",
    }


def join(arguments: WorkerArguments) -> TCPStore | None:
    """Become a rank; what is returned must be kept for as long as the process lives."""
    os.environ.update(rank_variables(arguments))
    # All ranks are on this machine; the host's name may lead to another interface, or nowhere.
    os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo")
    os.environ.setdefault("TORCH_NCCL_ASYNC_ERROR_HANDLING", "1")
    # As in fresh processes, ranks draw the same numbers: what they sample must not differ.
    torch.manual_seed(arguments.meeting_port)
    return meeting_store(arguments.meeting_port) if arguments.rank == 0 else None


def meeting_store(port: int) -> TCPStore:
    """The store where ranks find each other; the daemon keeps the port free for it."""
    from torch.distributed import TCPStore  # type: ignore[attr-defined]  # torch names no exports

    listener = socket.socket()
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.bind((HOST, port))
    listener.listen(BACKLOG)
    return TCPStore(
        HOST, port, is_master=True, wait_for_workers=False, master_listen_fd=listener.detach()
    )


class FollowerOutbox(Outbox):
    """The way back of every rank but 0: it says when it is done. Its answers do not count."""

    def send_answers(
        self,
        batch_id: int,
        grant: tuple[int, int],
        jobs: Sequence[int],
        answers: Bodies | list[Answer],
    ) -> None:
        """Say that the batch is done; what failed is for the log."""
        for answer in answers_with(answers):
            if answer.outcome is not Outcome.OK and answer.message:
                sys.stderr.write(answer.message.rstrip("\n") + "\n")
        self._send(pack_notice(NoticeKind.ANSWERS, batch_id))

    def send_part(self, batch_id: int, job_id: int, answer: Answer) -> None:
        """Nothing: rank 0 sends the pieces."""
