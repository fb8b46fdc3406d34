"""mosec with one worker, which calls the handler.

Called as: python mosec_server.py HANDLER BATCH_SIZE CONTENT_TYPE, and mosec's own options."""

# Its packages are in the peer's own environment, where no type checker looks.
# mypy: disable-error-code="import-not-found, misc"

from __future__ import annotations

import importlib
import sys
from typing import Any

import orjson
from mosec import Server, Worker

HANDLER, BATCH_SIZE, CONTENT_TYPE = sys.argv[1:4]
# The shortest that there is: 0 stands for the default of 10.
WAIT_MS = 1


class Model(Worker):
    """The handler, batch by batch."""

    def __init__(self) -> None:
        super().__init__()
        self._handle = importlib.import_module(HANDLER).handle
        self._decode = orjson.loads if CONTENT_TYPE == "application/json" else bytes

    def deserialize(self, data: bytes) -> Any:
        return self._decode(data)

    def forward(self, data: Any) -> Any:
        # mosec gives no list where a batch has room for one.
        if self.max_batch_size == 1:
            return self._handle([{"body": data}], None)[0]
        return self._handle([{"body": row} for row in data], None)

    def serialize(self, data: bytes) -> bytes:
        return data


if __name__ == "__main__":
    server = Server()
    server.append_worker(Model, num=1, max_batch_size=int(BATCH_SIZE), max_wait_time=WAIT_MS)
    server.run()
