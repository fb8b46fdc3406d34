"""One worker: load the model, then take batches, run the handler, give the answers back.

Bodies become what handlers take, and back, in codec.py; files become a handler in loader.py; the
way back to the daemon is outbox.py; handlers that run several jobs at once are in overlapping.py,
batches that overlap on a GPU in ahead.py.
A worker ends when the daemon says so or closes its end; it never outlives the daemon."""

from __future__ import annotations

import contextlib
import gc
import logging
import mmap
import os
import re
import signal
import socket
import sys
import traceback
from collections.abc import Callable, Sequence
from typing import NoReturn, Protocol

import torch

from tsd import process
from tsd.ipc import channel as wire
from tsd.ipc.arguments import WorkerArguments
from tsd.ipc.layout import (
    BATCHES,
    Header,
    NoticeKind,
    RequestEntry,
    pack_notice,
    pack_text,
    unpack_batch,
    unpack_header,
)
from tsd.worker import gpu, printing
from tsd.worker.ahead import AheadRunner
from tsd.worker.idling import Idling, give_back
from tsd.worker.loader import LoadArguments, LoadedModel, load
from tsd.worker.outbox import MetricsSender, Outbox, grant_of
from tsd.worker.overlapping import AsyncRunner, ContinuousRunner
from tsd.worker.parts import PartSender
from tsd.worker.ranks import FollowerOutbox, join

FIRST_FREE_FD = 3

logger = logging.getLogger(__name__)


class Serving(Protocol):
    """What takes notices until the worker is to end."""

    def serve(self) -> None: ...


def main(arguments: WorkerArguments, descriptors: Sequence[int]) -> NoReturn:
    """The whole life of a freshly forked worker."""
    status = 1
    try:
        channel, arena, segment = _settle(arguments, descriptors)
        # Held for the life of the process: other ranks meet there.
        _store = join(arguments) if arguments.ranks else None
        model = _load(arguments, channel)
        if model is not None:
            kind = FollowerOutbox if arguments.rank else Outbox
            outbox = kind(channel, segment, arguments.max_answer_bytes)
            if (held := gpu.memory()) is not None:
                outbox.send_memory(held)
            _runner(arguments.mode, outbox, arena, model).serve()
            status = 0
    except SystemExit as exit_asked:
        status = exit_asked.code if isinstance(exit_asked.code, int) else 1
    except BaseException:  # noqa: BLE001 (the last words of a process, whatever ended it)
        traceback.print_exc()
    finally:
        with contextlib.suppress(OSError, ValueError):
            printing.finish()
        # Not sys.exit: what the fork server registered for its own end is not ours to run.
        os._exit(status & 0xFF)


def is_ahead(model: LoadedModel) -> bool:
    """Whether the model begins a batch before it has answered the one before."""
    return model.context.launching is not None


def _runner(mode: str, outbox: Outbox, arena: memoryview, model: LoadedModel) -> Serving:
    if mode == "batch" and is_ahead(model):
        return AheadRunner(outbox, arena, model)
    runners: dict[str, Callable[[Outbox, memoryview, LoadedModel], Serving]] = {
        "batch": Runner,
        "continuous": ContinuousRunner,
        "async": AsyncRunner,
    }
    return runners[mode](outbox, arena, model)


class Runner:
    """Takes batches off the channel, one at a time, in order."""

    def __init__(self, outbox: Outbox, arena: memoryview, model: LoadedModel) -> None:
        self.outbox = outbox
        self.arena = arena
        self.model = model
        self._parts = PartSender(outbox)
        self._metrics = MetricsSender(outbox, model.context.metrics)
        self._idling = Idling(outbox, self._metrics)
        model.context.part_sender = self._parts

    def serve(self) -> None:
        """Answer batches until the daemon says stop or is gone."""
        while notice := self._idling.next_notice():
            header = unpack_header(notice)
            if header.kind == NoticeKind.STOP:
                break
            if header.kind in BATCHES:
                self._answer(header, unpack_batch(notice, header, self.arena))
        self._metrics.send()

    def _answer(self, header: Header, entries: list[RequestEntry]) -> None:
        self._parts.begin(
            lambda: {e.request_id.decode("ascii"): (header.batch_id, e.job_id) for e in entries}
        )
        printing.about_batch(lambda: [entry.request_id.decode("ascii") for entry in entries])
        answers = self.model.run(entries)
        printing.about_batch(tuple)
        self._parts.end()
        jobs = [entry.job_id for entry in entries]
        self.outbox.send_answers(header.batch_id, grant_of(header), jobs, answers)


def _settle(
    arguments: WorkerArguments, descriptors: Sequence[int]
) -> tuple[socket.socket, memoryview, memoryview]:
    """Become this worker: title, descriptors, signals, threads, memory."""
    process.set_title(arguments.title)
    channel_fd, arena_fd, answers_fd, stdout_fd, stderr_fd = descriptors
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    os.dup2(stdout_fd, 1)
    os.dup2(stderr_fd, 2)
    arena = memoryview(mmap.mmap(arena_fd, arguments.arena_bytes, prot=mmap.PROT_READ))
    # Of several ranks only the first one writes answers.
    answers = memoryview(b"" if arguments.rank else mmap.mmap(answers_fd, arguments.answers_bytes))
    channel = socket.socket(fileno=os.dup(channel_fd))
    close_all_but(channel.fileno())
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_DFL)
    sys.stdin = open(0, closefd=False)  # noqa: SIM115 (the descriptors of this process)
    printing.take_over(arguments.log_level, arguments.log_line_bytes)
    _set_environment(arguments)
    _keep_to(arguments.processors)
    torch.set_num_threads(arguments.threads)
    if arguments.gpu_id is not None:
        # Each GPU's generator begins with the same numbers in every process.
        torch.cuda.manual_seed_all(torch.initial_seed())
    return channel, arena, answers


def _keep_to(processors: Sequence[int]) -> None:
    """Compute there only; threads that come later do the same."""
    try:
        if processors:
            os.sched_setaffinity(0, processors)
    except OSError as error:
        # The system's own rules come first: the unit forbids it unless a drop-in lets it.
        logger.warning("pin_workers has no effect (see pinned-workers.conf): %s", error)


def _set_environment(arguments: WorkerArguments) -> None:
    if arguments.hidden_variables:
        hidden = re.compile(arguments.hidden_variables)
        for name in [name for name in os.environ if hidden.fullmatch(name)]:
            del os.environ[name]
    os.environ.update(arguments.variables)
    if arguments.gpus:
        named = os.environ.get("CUDA_VISIBLE_DEVICES", "")
        os.environ["CUDA_VISIBLE_DEVICES"] = visible_devices(arguments.gpus, named)


def visible_devices(gpus: Sequence[int], named: str) -> str:
    """The GPUs of those numbers, by the names that the environment has for the ones it shows."""
    names = named.split(",") if named else []
    return ",".join(names[gpu].strip() if names else str(gpu) for gpu in gpus)


def close_all_but(kept: int) -> None:
    """Nothing else that is open is this process's, but for the standard streams."""
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
                extra_paths=arguments.extra_paths,
                envelope=arguments.envelope,
                limit_max_image_pixels=arguments.limit_image_pixels,
                decode_input=arguments.decode_input,
                metrics_config=arguments.metrics_config,
                metrics_lines=arguments.metrics_lines,
            )
        )
    except Exception:  # noqa: BLE001 (a handler may raise anything; the daemon is told all of it)
        wire.send_notice(channel, pack_text(NoticeKind.FAILED, traceback.format_exc()))
        return None
    wire.send_notice(channel, pack_text(NoticeKind.PHASE, "warming"))
    gc.collect()
    gc.freeze()
    give_back()
    wire.send_notice(channel, pack_notice(NoticeKind.READY, first=is_ahead(model)))
    return model
