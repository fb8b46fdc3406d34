"""The yardstick of gRPC: a bare server of grpcio that answers a constant to whatever is asked.

On uvloop, as the daemon; it does not look into the message. Prints its port when it listens."""

from __future__ import annotations

import asyncio

import grpc
import grpc.aio
import uvloop

from tsd.grpc.protos import inference_pb2

ANSWER = inference_pb2.PredictionResponse(prediction=b'{"ok":true}').SerializeToString()
SERVICE = "org.pytorch.serve.grpc.inference.InferenceAPIsService"


async def answer(_request: bytes, _context: object) -> bytes:
    """The constant."""
    return ANSWER


async def serve() -> None:
    server = grpc.aio.server()
    rpcs: dict[str, grpc.RpcMethodHandler[bytes, bytes]] = {
        "Predictions": grpc.unary_unary_rpc_method_handler(answer)
    }
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(SERVICE, rpcs),))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    print(port, flush=True)
    await server.wait_for_termination()


if __name__ == "__main__":
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(serve())
