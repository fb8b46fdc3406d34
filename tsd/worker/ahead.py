"""Batches that overlap on a GPU: the next one is copied in while the present one is computed.

For handlers that can begin a batch before the last one is answered (tensor_handler.py); answers
leave in the order of the batches. All others are served by runner.py."""

from __future__ import annotations

import select
import time
from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from tsd.ipc.layout import BATCHES, Header, NoticeKind, RequestEntry, unpack_batch, unpack_header
from tsd.worker import printing
from tsd.worker.codec import Answer
from tsd.worker.idling import Idling
from tsd.worker.loader import PREDICTION_METRIC, LoadedModel, Row, failed, taken
from tsd.worker.outbox import MetricsSender, Outbox, grant_of

if TYPE_CHECKING:
    # Its module needs numpy, which not every runtime has.
    from tsd.worker.tensor_handler import Launched

IN_FLIGHT = 2
# A device tells nobody that it is done: it is asked this often while the next batch may come.
ASK_S = 0.0001


@dataclass(slots=True)
class Flying:
    """A batch between its notice and its answers, which are known already of some jobs."""

    header: Header
    jobs: list[int]
    answers: dict[int, Answer] = field(default_factory=dict)
    rows: dict[int, Row] = field(default_factory=dict)
    launched: Launched | None = None
    began_at: float = field(default_factory=time.perf_counter)

    @property
    def is_done(self) -> bool:
        """Whether its outputs are there, or will not come."""
        try:
            return self.launched is None or self.launched.mark.query()
        except RuntimeError:
            # A device that has failed says so again when its outputs are asked for.
            return True


class AheadRunner:
    """Takes batches off the channel, two at a time at most, and answers them in order."""

    def __init__(self, outbox: Outbox, arena: memoryview, model: LoadedModel) -> None:
        self._outbox = outbox
        self._arena = arena
        self._model = model
        self._metrics = MetricsSender(outbox, model.context.metrics)
        self._idling = Idling(outbox, self._metrics)
        self._flying: deque[Flying] = deque()

    def serve(self) -> None:
        """Answer batches until the daemon says stop or is gone."""
        passes = self._model.context.launching.passes
        passes.use_arena(self._arena)
        while (notice := self._next_notice()) != b"":
            if notice is None:
                self._land()
                continue
            header = unpack_header(notice)
            if header.kind in BATCHES:
                self._launch(header, unpack_batch(notice, header, self._arena))
            elif header.kind == NoticeKind.STOP:
                while self._flying:
                    self._land()
                passes.close()
                break
        self._metrics.send()

    def _next_notice(self) -> bytes | None:
        """The next one, empty when the daemon is gone; None when a batch is to be answered now."""
        if not self._flying:
            return self._idling.next_notice()
        while len(self._flying) < IN_FLIGHT and not self._flying[0].is_done:
            notice = self._outbox.receive_waiting()
            if notice is not None:
                return notice
            select.select([self._outbox.channel], [], [], ASK_S)
        return None

    def _launch(self, header: Header, entries: list[RequestEntry]) -> None:
        flying = Flying(header, [entry.job_id for entry in entries])
        for entry in entries:
            row = self._model.row(entry)
            if isinstance(row, Row):
                flying.rows[entry.job_id] = row
            else:
                flying.answers[entry.job_id] = row
        printing.about_batch(lambda: [row.request_id for row in flying.rows.values()])
        try:
            inputs = taken(flying.rows.values())
            flying.launched = self._model.context.launching.launch(inputs)
        except Exception as error:  # noqa: BLE001 (a model may raise anything)
            answers = failed(error, len(flying.rows))
            flying.answers.update(zip(flying.rows, answers, strict=True))
        printing.about_batch(tuple)
        self._flying.append(flying)

    def _land(self) -> None:
        flying = self._flying.popleft()
        if flying.launched is not None:
            answers = self._answers(flying, flying.launched)
            flying.answers.update(zip(flying.rows, answers, strict=True))
        header, answers = flying.header, [flying.answers[job] for job in flying.jobs]
        self._outbox.send_answers(header.batch_id, grant_of(header), flying.jobs, answers)
        self._metrics.send_if_due()

    def _answers(self, flying: Flying, launched: Launched) -> list[Answer]:
        rows, context = list(flying.rows.values()), self._model.context
        ids = [row.request_id for row in rows]
        context.begin_batch(ids, lambda: [row.processor for row in rows])
        try:
            results: Any = launched.finish()
        except Exception as error:  # noqa: BLE001 (what was launched may fail in any way)
            return failed(error, len(rows))
        took_ms = (time.perf_counter() - flying.began_at) * 1000
        context.metrics.add_time(PREDICTION_METRIC, round(took_ms, 2))
        return self._model.answers_of(results, rows)
