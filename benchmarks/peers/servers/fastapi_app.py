"""FastAPI as a careful team writes it by hand, in one process: requests wait in a queue, and one
loop gives the handler all that waits as a batch.

The handler is called on the event loop: on a thread of its own it waits 5 ms for the interpreter's
lock whenever the loop is busy, which costs a small model most of its throughput.

Called as: python fastapi_app.py PORT HANDLER BATCH_SIZE CONTENT_TYPE"""

# Its packages are in the peer's own environment, where no type checker looks.
# mypy: disable-error-code="import-not-found, misc"

from __future__ import annotations

import asyncio
import contextlib
import importlib
import sys
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from typing import Any

import orjson
import uvicorn
from fastapi import FastAPI, Request, Response

Handle = Callable[[list[dict[str, Any]], object], list[bytes]]


@dataclass(frozen=True)
class Waiting:
    """One request in the queue."""

    body: Any
    answer: asyncio.Future[bytes]


def main(port: str, handler: str, batch_size: str, content_type: str) -> None:
    handle = importlib.import_module(handler).handle
    app = application(handle, int(batch_size), content_type)
    uvicorn.run(app, host="127.0.0.1", port=int(port), access_log=False, log_level="warning")


def application(handle: Handle, batch_size: int, content_type: str) -> FastAPI:
    """One route in front of the handler."""
    queue: asyncio.Queue[Waiting] = asyncio.Queue()
    decode = orjson.loads if content_type == "application/json" else bytes

    @contextlib.asynccontextmanager
    async def lifespan(_app: FastAPI) -> AsyncIterator[None]:
        batches = asyncio.create_task(answer_batches(queue, handle, batch_size))
        yield
        batches.cancel()

    app = FastAPI(lifespan=lifespan)

    async def predict(request: Request) -> Response:
        answer: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
        queue.put_nowait(Waiting(decode(await request.body()), answer))
        return Response(await answer, media_type=content_type)

    app.add_api_route("/predict", predict, methods=["POST"])
    return app


async def answer_batches(queue: asyncio.Queue[Waiting], handle: Handle, batch_size: int) -> None:
    """Give the handler all that waits, up to a full batch, again and again."""
    while True:
        batch = [await queue.get()]
        while len(batch) < batch_size and not queue.empty():
            batch.append(queue.get_nowait())
        answers = handle([{"body": one.body} for one in batch], None)
        for one, answer in zip(batch, answers, strict=True):
            # The client of one that is done has gone.
            if not one.answer.done():
                one.answer.set_result(answer)


if __name__ == "__main__":
    main(*sys.argv[1:])
