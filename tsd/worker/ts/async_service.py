"""AsyncService: the name of TorchServe's runner of asynchronous handlers. tsd has its own."""

from __future__ import annotations

from typing import Any, NoReturn

from ts.service import Service


class AsyncService:
    """A service whose entry point is a coroutine function."""

    def __init__(self, service: Service) -> None:
        self.service = service

    def run(self) -> NoReturn:
        """Refuse: tsd's workers run handlers with `asyncCommunication: true` themselves."""
        raise RuntimeError("tsd's workers run asynchronous handlers themselves")

    async def call_predict(self, batch: Any) -> Any:
        """The results of a batch of the wire, as the handler returns them."""
        context = self.service.context
        context.request_processor, rows, context.request_ids = (
            self.service.retrieve_data_for_inference(batch)
        )
        return await self.service._entry_point(rows, context)  # noqa: SLF001 (its other half)
