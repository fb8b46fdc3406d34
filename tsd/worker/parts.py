"""Pieces of answers that a handler sends while it still runs."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from tsd.worker import codec
from tsd.worker.outbox import Outbox

if TYPE_CHECKING:
    from ts.context import RequestProcessor

Places = Mapping[str, tuple[int, int]]


class PartSender:
    """Knows which job each running request is; handlers reach it through their context."""

    def __init__(self, outbox: Outbox) -> None:
        self._outbox = outbox
        # By request id: the batch, and the job in it; most handlers never send a piece.
        self._find: Callable[[], Places] = dict
        self._places: Places | None = None
        self._turn = threading.Lock()

    def begin(self, find: Callable[[], Places]) -> None:
        """These requests run from now on."""
        with self._turn:
            self._find, self._places = find, None

    def end(self) -> None:
        """They are about to be answered: what a thread of the handler sends later is dropped."""
        self.begin(dict)

    def send(
        self,
        results: Sequence[Any],
        request_ids: Mapping[int, str],
        processors: Sequence[RequestProcessor],
    ) -> None:
        """One piece for each request, in the order of the batch.

        Raises ValueError for a wrong number, and what `codec.encode` raises."""
        if len(results) != len(request_ids):
            raise ValueError(f"{len(results)} results for {len(request_ids)} requests")
        with self._turn:
            if self._places is None:
                self._places = self._find()
            for place, result in enumerate(results):
                found = self._places.get(request_ids[place])
                if found is not None:
                    self._outbox.send_part(*found, piece(result, processors[place]))

    def __deepcopy__(self, _memo: dict[int, Any]) -> PartSender:
        """Copies of a context send by the same channel."""
        return self


def piece(result: Any, processor: RequestProcessor) -> codec.Answer:
    """One piece with the status and headers set so far, of which the first one's count."""
    return codec.answer(
        codec.encode(result),
        processor.get_response_status_code(),
        processor.get_response_status_phrase() or "",
        processor.get_response_headers(),
    )
