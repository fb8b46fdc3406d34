"""Handlers that run several jobs at once: continuous batching, and asynchronous handlers.

In both, a job is a batch of its own to the daemon, with the job's id for the batch's: it comes
when there is room and is answered when it is done. Ordinary batches are in runner.py."""

from __future__ import annotations

import asyncio
import copy
from collections.abc import Callable, Sequence
from typing import Any

from tsd.ipc.layout import (
    BATCHES,
    Header,
    NoticeKind,
    Outcome,
    RequestEntry,
    unpack_batch,
    unpack_header,
)
from tsd.worker import codec, printing
from tsd.worker.codec import Answer, answers_with
from tsd.worker.idling import Idling
from tsd.worker.loader import LoadedModel, Row, failed
from tsd.worker.outbox import METRICS_S, MetricsSender, Outbox
from tsd.worker.parts import PartSender

NO_GRANT = (0, 0)
# The header by which a handler, or the criterion that it gave, says that a job goes on.
STREAM_NEXT = "ts_stream_next"
# The header of a request for what the handler says of its model.
DESCRIBE = ("describe", "True")
Criterion = Callable[[Any], bool | None]
CANCELLED = codec.bad_output("cancelled")


class ContinuousRunner:
    """Jobs join a running batch between its steps and leave it when they are finished."""

    def __init__(self, outbox: Outbox, arena: memoryview, model: LoadedModel) -> None:
        self._outbox = outbox
        self._arena = arena
        self._model = model
        self._metrics = MetricsSender(outbox, model.context.metrics)
        self._parts = PartSender(outbox)
        self._idling = Idling(outbox, self._metrics)
        self._running: dict[int, Row] = {}
        self._is_stopping = False
        model.context.part_sender = self._parts

    def serve(self) -> None:
        """Step after step, until the daemon says stop and all is answered, or is gone."""
        while not self._is_stopping or self._running:
            if not self._take_in():
                return
            if self._running:
                self._step()

    def _take_in(self) -> bool:
        """Take what has come; wait only when nothing runs. False: the daemon is gone."""
        while True:
            notice = self._outbox.receive_waiting() if self._running else self._idling.next_notice()
            if notice is None:
                return True
            if not notice:
                return False
            header = unpack_header(notice)
            if header.kind == NoticeKind.STOP:
                self._is_stopping = True
                return True
            self._take(header, notice)

    def _take(self, header: Header, notice: bytes) -> None:
        if header.kind == NoticeKind.CANCEL and header.batch_id in self._running:
            del self._running[header.batch_id]
            self._answer(header.batch_id, CANCELLED)
        elif header.kind in BATCHES:
            for entry in unpack_batch(notice, header, self._arena):
                self._begin(entry)

    def _begin(self, entry: RequestEntry) -> None:
        if DESCRIBE in codec.head_of(entry.fields).headers:
            # No job of the batch: its handler would take it for one.
            self._answer(entry.job_id, answers_with(self._model.run([entry]))[0])
            return
        row = self._model.row(entry)
        if isinstance(row, Row):
            self._running[entry.job_id] = row
        else:
            self._answer(entry.job_id, row)

    def _step(self) -> None:
        jobs, rows = list(self._running), list(self._running.values())
        places = {row.request_id: (job, job) for job, row in self._running.items()}
        self._parts.begin(lambda: places)
        printing.about_batch(lambda: [row.request_id for row in rows])
        try:
            results = self._model.call(rows, self._model.context)
            _apply(self._model.context.stopping_criteria, results, rows)
            answers = self._model.answers_of(results, rows)
        except Exception as error:  # noqa: BLE001 (a handler may raise anything)
            answers = failed(error, len(rows))
        printing.about_batch(tuple)
        self._parts.end()
        for job, row, answer in zip(jobs, rows, answers, strict=True):
            if answer.outcome is Outcome.OK and _goes_on(row):
                self._outbox.send_part(job, job, answer)
                row.go_on()
            else:
                del self._running[job]
                self._answer(job, answer)
        self._metrics.send_if_due()

    def _answer(self, job: int, answer: Answer) -> None:
        self._outbox.send_answers(job, NO_GRANT, [job], [answer])


def _apply(criteria: Sequence[Criterion] | None, results: Any, rows: Sequence[Row]) -> None:
    """Ask of each job whether it is finished; None leaves what the handler itself has said."""
    if criteria is None or not isinstance(results, list):
        return
    for criterion, result, row in zip(criteria, results, rows, strict=False):
        is_finished = criterion(result)
        if is_finished is not None:
            row.processor.add_response_property(STREAM_NEXT, "false" if is_finished else "true")


def _goes_on(row: Row) -> bool:
    return bool(row.processor.get_response_header(STREAM_NEXT) == "true")


class AsyncRunner:
    """Each job is a call of its own of a coroutine function; the calls overlap."""

    def __init__(self, outbox: Outbox, arena: memoryview, model: LoadedModel) -> None:
        self._outbox = outbox
        self._arena = arena
        self._model = model
        self._calls: dict[int, asyncio.Task[Answer]] = {}
        self._is_stopping = False
        self._over = asyncio.Event()
        self._metrics = MetricsSender(outbox, model.context.metrics)
        self._metrics_timer: asyncio.TimerHandle | None = None

    def serve(self) -> None:
        """Run calls until the daemon says stop and all is answered, or is gone."""
        asyncio.run(self._serve())

    async def _serve(self) -> None:
        loop = asyncio.get_running_loop()
        loop.add_reader(self._outbox.channel, self._on_readable)
        await self._over.wait()
        loop.remove_reader(self._outbox.channel)
        await asyncio.gather(*self._calls.values(), return_exceptions=True)
        self._metrics.send()

    def _on_readable(self) -> None:
        while not self._over.is_set() and (notice := self._outbox.receive_waiting()) is not None:
            if not notice:
                self._over.set()
                return
            header = unpack_header(notice)
            if header.kind == NoticeKind.STOP:
                self._is_stopping = True
                self._stop_if_done()
            elif header.kind == NoticeKind.CANCEL and header.batch_id in self._calls:
                self._calls[header.batch_id].cancel()
            elif header.kind in BATCHES:
                for entry in unpack_batch(notice, header, self._arena):
                    self._begin(entry)

    def _begin(self, entry: RequestEntry) -> None:
        # Before the first await: the body's memory is not ours for longer than this notice.
        row = self._model.row(entry)
        call = asyncio.get_running_loop().create_task(self._run(entry.job_id, row))
        self._calls[entry.job_id] = call
        call.add_done_callback(lambda call: self._end(entry.job_id, call))
        if self._metrics_timer is None:
            self._send_metrics_later()

    def _send_metrics_later(self) -> None:
        loop = asyncio.get_running_loop()
        self._metrics_timer = loop.call_later(METRICS_S, self._send_metrics)

    def _send_metrics(self) -> None:
        """As long as calls run, and once after the last of them."""
        self._metrics_timer = None
        self._metrics.send()
        if self._calls:
            self._send_metrics_later()

    def _stop_if_done(self) -> None:
        if self._is_stopping and not self._calls:
            self._over.set()

    def _end(self, job: int, call: asyncio.Task[Answer]) -> None:
        del self._calls[job]
        answer = CANCELLED if call.cancelled() else call.result()
        self._outbox.send_answers(job, NO_GRANT, [job], [answer])
        # What came while a grant was waited for is in no descriptor any more.
        self._on_readable()
        self._stop_if_done()

    async def _run(self, job: int, row: Row | Answer) -> Answer:
        if not isinstance(row, Row):
            return row
        printing.about_call(row.request_id)
        # Calls overlap, so each has a context of its own; what the handler keeps in it is shared.
        context = copy.copy(self._model.context)
        context.part_sender = PartSender(self._outbox)
        context.part_sender.begin(lambda: {row.request_id: (job, job)})
        try:
            results = await self._model.call_async([row], context)
        except Exception as error:  # noqa: BLE001 (a handler may raise anything)
            return failed(error, 1)[0]
        finally:
            context.part_sender.end()
        return self._model.answers_of(results, [row])[0]
