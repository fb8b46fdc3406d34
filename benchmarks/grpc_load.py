"""The load by gRPC: one channel, and on it so many calls at once, each followed by the next.

The message is made once and the answer is not looked into, so that the client costs little; it
is in Python all the same, so that rates end where it ends: look at the servers' CPU time. Prints a
line of JSON."""

from __future__ import annotations

import asyncio
import json
import sys
import time
from pathlib import Path

import grpc.aio
import uvloop

from benchmarks.grpc_echo import SERVICE
from benchmarks.load import summary
from tsd.grpc.protos import inference_pb2

CALL_S = 30


async def ask(url: str, body: bytes, calls: int, seconds: float) -> dict[str, float]:
    address, _, model = url.partition("/")
    asked = inference_pb2.PredictionsRequest(model_name=model, input={"body": body})
    message = asked.SerializeToString()
    took_us: list[float] = []
    failed = 0
    async with grpc.aio.insecure_channel(address) as channel:
        predict: grpc.aio.UnaryUnaryMultiCallable[bytes, bytes] = channel.unary_unary(
            f"/{SERVICE}/Predictions"
        )
        await predict(message, timeout=CALL_S)
        begun = time.perf_counter()

        async def repeat() -> None:
            nonlocal failed
            while (before := time.perf_counter()) < begun + seconds:
                try:
                    await predict(message, timeout=CALL_S)
                except grpc.aio.AioRpcError:
                    failed += 1
                    return
                took_us.append(1e6 * (time.perf_counter() - before))

        await asyncio.gather(*(repeat() for _ in range(calls)))
        duration_us = 1e6 * (time.perf_counter() - begun)
    return summary(took_us, duration_us, failed)


def main(url: str, body_file: str, calls: str, seconds: str) -> None:
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        body = Path(body_file).read_bytes()
        print(json.dumps(runner.run(ask(url, body, int(calls), float(seconds)))))


if __name__ == "__main__":
    main(*sys.argv[1:])
