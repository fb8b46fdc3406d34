"""One worker: load the model, then take a batch, run the handler, give the answers back.

Bodies become what handlers take, and back, in codec.py; files become a handler in loader.py.
A worker ends when the daemon says so or closes its end; it never outlives the daemon."""

from __future__ import annotations

import contextlib
import gc
import logging
import mmap
import os
import signal
import socket
import sys
import traceback
from collections import deque
from collections.abc import Sequence
from functools import lru_cache
from typing import NoReturn

import torch

from tsd import process
from tsd.ipc import channel as wire
from tsd.ipc.arguments import WorkerArguments
from tsd.ipc.layout import (
    Header,
    NoticeKind,
    Outcome,
    OutgoingAnswer,
    RequestEntry,
    body_offset,
    inline_limit,
    pack_answers,
    pack_notice,
    pack_text,
    slot_bytes,
    unpack_batch,
    unpack_fields,
    unpack_header,
)
from tsd.worker.codec import Answer, DecodedRequest
from tsd.worker.loader import LoadArguments, LoadedModel, load

FIRST_FREE_FD = 3
REMEMBERED_HEAD_BYTES = 1_024


def main(arguments: WorkerArguments, descriptors: Sequence[int]) -> NoReturn:
    """The whole life of a freshly forked worker."""
    status = 1
    try:
        channel, arena, answers = _settle(arguments, descriptors)
        model = _load(arguments, channel)
        if model is not None:
            Runner(channel, arena, answers, model).serve()
            status = 0
    except SystemExit as exit_asked:
        status = exit_asked.code if isinstance(exit_asked.code, int) else 1
    except BaseException:  # noqa: BLE001 (the last words of a process, whatever ended it)
        traceback.print_exc()
    finally:
        with contextlib.suppress(OSError, ValueError):
            sys.stdout.flush()
            sys.stderr.flush()
        # Not sys.exit: what the fork server registered for its own end is not ours to run.
        os._exit(status & 0xFF)


class Runner:
    """Takes batches off the channel, one at a time, in order."""

    def __init__(
        self, channel: socket.socket, arena: memoryview, answers: memoryview, model: LoadedModel
    ) -> None:
        self.channel = channel
        self.arena = arena
        self.answers = answers
        self.model = model
        self._ahead: deque[bytes] = deque()

    def serve(self) -> None:
        """Answer batches until the daemon says stop or is gone."""
        while notice := self._next_notice():
            header = unpack_header(notice)
            if header.kind == NoticeKind.STOP:
                return
            if header.kind == NoticeKind.BATCH:
                self._answer(header, unpack_batch(notice, header.rows, self.arena))

    def _next_notice(self) -> bytes:
        return self._ahead.popleft() if self._ahead else wire.receive_notice(self.channel)

    def _answer(self, header: Header, entries: list[RequestEntry]) -> None:
        answers = self.model.run([_decode(entry) for entry in entries])
        packed = [_pack(entry, answer) for entry, answer in zip(entries, answers, strict=True)]
        placed = self._place(header, packed)
        wire.send_notice(self.channel, pack_answers(header.batch_id, placed))

    def _place(self, header: Header, answers: list[OutgoingAnswer]) -> list[OutgoingAnswer]:
        """Write the answers that are too large for the notice into the answer segment."""
        limit = inline_limit(len(answers))
        needed = sum(_segment_bytes(answer, limit) for answer in answers)
        if not needed:
            return answers
        offset, granted = header.first, header.second
        if granted < needed:
            offset, granted = self._ask_for(header.batch_id, needed)
        placed = []
        for answer in answers:
            size = _segment_bytes(answer, limit)
            if size and granted < needed:
                answer = _too_large(answer)
            elif size:
                answer = self._write(answer, offset)
                offset += size
            placed.append(answer)
        return placed

    def _ask_for(self, batch_id: int, size: int) -> tuple[int, int]:
        wire.send_notice(self.channel, pack_notice(NoticeKind.NEED, batch_id, size))
        while notice := wire.receive_notice(self.channel):
            header = unpack_header(notice)
            if header.kind == NoticeKind.GRANT:
                return header.first, header.second
            self._ahead.append(notice)
        raise SystemExit(0)

    def _write(self, answer: OutgoingAnswer, offset: int) -> OutgoingAnswer:
        begin = offset + body_offset(len(answer.head))
        self.answers[offset : offset + len(answer.head)] = answer.head
        self.answers[begin : begin + len(answer.body)] = answer.body
        return answer._replace(offset=offset)


def _segment_bytes(answer: OutgoingAnswer, limit: int) -> int:
    """What the answer takes of the segment; 0 when it travels in the notice."""
    if len(answer.head) + len(answer.body) <= limit:
        return 0
    return body_offset(slot_bytes(len(answer.head), len(answer.body)))


def _settle(
    arguments: WorkerArguments, descriptors: Sequence[int]
) -> tuple[socket.socket, memoryview, memoryview]:
    """Become a process of its own: parent, title, descriptors, signals, threads, memory."""
    process.die_with_parent(arguments.daemon_pid)
    process.set_title(arguments.title)
    channel_fd, arena_fd, answers_fd, stdout_fd, stderr_fd = descriptors
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    os.dup2(stdout_fd, 1)
    os.dup2(stderr_fd, 2)
    arena = memoryview(mmap.mmap(arena_fd, arguments.arena_bytes, prot=mmap.PROT_READ))
    answers = memoryview(mmap.mmap(answers_fd, arguments.answers_bytes))
    channel = socket.socket(fileno=os.dup(channel_fd))
    _close_all_but(channel.fileno())
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_DFL)
    sys.stdin = open(0, closefd=False)  # noqa: SIM115 (the descriptors of this process)
    sys.stdout = open(1, "w", buffering=1, closefd=False)  # noqa: SIM115
    sys.stderr = open(2, "w", buffering=1, closefd=False)  # noqa: SIM115
    logging.basicConfig(stream=sys.stdout, format="%(message)s", level=logging.INFO, force=True)
    torch.set_num_threads(arguments.threads)
    # A forked generator would give every worker the same numbers.
    torch.seed()
    return channel, arena, answers


def _close_all_but(kept: int) -> None:
    os.closerange(FIRST_FREE_FD, kept)
    os.closerange(kept + 1, os.sysconf("SC_OPEN_MAX"))


def _load(arguments: WorkerArguments, channel: socket.socket) -> LoadedModel | None:
    """The loaded model, said to be ready; None when it could not be, said with the reason."""
    wire.send_notice(channel, pack_text(NoticeKind.PHASE, "loading"))
    try:
        model = load(
            LoadArguments(
                model_name=arguments.model_name,
                model_version=arguments.model_version,
                model_dir=arguments.model_dir,
                handler=arguments.handler,
                manifest=arguments.manifest,
                model_yaml=arguments.model_yaml,
                batch_size=arguments.batch_size,
                device=arguments.device,
                gpu_id=arguments.gpu_id,
            )
        )
    except Exception:  # noqa: BLE001 (a handler may raise anything; the daemon is told all of it)
        wire.send_notice(channel, pack_text(NoticeKind.FAILED, traceback.format_exc()))
        return None
    wire.send_notice(channel, pack_text(NoticeKind.PHASE, "warming"))
    gc.collect()
    gc.freeze()
    wire.send_notice(channel, pack_notice(NoticeKind.READY))
    return model


def _decode(entry: RequestEntry) -> DecodedRequest:
    request_id, _, fields = entry.head.partition(b"\0")
    is_common = len(fields) <= REMEMBERED_HEAD_BYTES
    headers = _remembered_headers(fields) if is_common else _headers(fields)
    return DecodedRequest(request_id.decode("ascii"), headers, entry.body)


def _headers(fields: bytes) -> list[tuple[str, str]]:
    _, pairs = unpack_fields(b"\0" + fields) if fields else (b"", [])
    return [(name.decode("latin-1"), value.decode("latin-1")) for name, value in pairs]


# A client sends the same headers again and again; nobody changes the list.
_remembered_headers = lru_cache(maxsize=256)(_headers)


def _pack(entry: RequestEntry, answer: Answer) -> OutgoingAnswer:
    if answer.outcome != Outcome.OK:
        return OutgoingAnswer(
            entry.job_id, answer.outcome, answer.status, b"", answer.message.encode()
        )
    return OutgoingAnswer(
        entry.job_id, Outcome.OK, answer.status, _answer_head(answer), answer.body
    )


def _answer_head(answer: Answer) -> bytes:
    if not answer.headers and not answer.reason:
        return b""
    fields = [answer.reason, *[field for pair in answer.headers for field in pair]]
    return b"\0".join(field.encode("latin-1", "replace") for field in fields)


def _too_large(answer: OutgoingAnswer) -> OutgoingAnswer:
    text = b"The answer is larger than the answer segment allows."
    return OutgoingAnswer(answer.job_id, Outcome.BAD_OUTPUT, 500, b"", text)
