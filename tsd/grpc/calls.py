"""What every call passes: the token, errors as statuses, and the table of a service.

A method of a service takes a message and the call, and returns a message; a streaming one writes
to the call instead. What it raises becomes the status of the call."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal, Protocol, TypeAlias

import grpc
import grpc.aio
from google.protobuf.message import Message

from tsd.errors import TsdError
from tsd.grpc.statuses import CallStatus
from tsd.log import get_logger

log = get_logger()

# The library's classes take types for the type checker only.
Call: TypeAlias = "grpc.aio.ServicerContext[Any, Any]"
Handler: TypeAlias = "grpc.RpcMethodHandler[Any, Any]"
Continuation: TypeAlias = "Callable[[grpc.HandlerCallDetails], Awaitable[Handler | None]]"
Method = Callable[[Any, Call], Awaitable[Message | None]]
Translate = Callable[[TsdError], CallStatus]
Kind = Literal["inference", "management"]

OPEN_TO_ALL = "/grpc.health.v1.Health/"
"""Probes carry no token."""


class TokenCheck(Protocol):
    """Whether a caller may come in: api/tokens.py fits."""

    def check(self, kind: Kind, authorization: str | None) -> None: ...


@dataclass(frozen=True, slots=True)
class Rpc:
    """One row of a service's table: what is read, who answers, what errors become."""

    request: type[Message]
    method: Method
    translate: Translate
    reads_stream: bool = False
    writes_stream: bool = False


def service(name: str, rpcs: Mapping[str, Rpc]) -> grpc.GenericRpcHandler:
    """The service as the library takes it."""
    handlers = {method: _handler(rpc) for method, rpc in rpcs.items()}
    return grpc.method_handlers_generic_handler(name, handlers)


class UnknownMethods(grpc.GenericRpcHandler):
    """Stands behind all services: says which method there is not."""

    def service(self, handler_call_details: grpc.HandlerCallDetails) -> Handler | None:
        """The refusal, in TorchServe's words."""
        name = handler_call_details.method.removeprefix("/")
        return _refusal(CallStatus(grpc.StatusCode.UNIMPLEMENTED, f"Method not found: {name}"))


class TokenGate(grpc.aio.ServerInterceptor):
    """Lets in who has the token of this door's kind."""

    def __init__(self, tokens: TokenCheck, kind: Kind) -> None:
        self._tokens = tokens
        self._kind = kind

    async def intercept_service(
        self,
        continuation: Continuation,
        handler_call_details: grpc.HandlerCallDetails,
    ) -> Handler | None:
        """The handler, or a refusal in its place."""
        said = dict(handler_call_details.invocation_metadata).get("authorization")
        try:
            if not handler_call_details.method.startswith(OPEN_TO_ALL):
                self._tokens.check(self._kind, said if isinstance(said, str) else None)
        except TsdError as error:
            return _refusal(CallStatus(grpc.StatusCode.PERMISSION_DENIED, str(error)))
        return await continuation(handler_call_details)


def _handler(rpc: Rpc) -> Handler:
    async def answer(request: Any, call: Call) -> Message | None:
        try:
            return await rpc.method(request, call)
        except TsdError as error:
            status = rpc.translate(error)
        except Exception as error:
            if isinstance(error, grpc.aio.AbortError):
                raise
            # A bug: one traceback in the log, a bare error outside.
            log.exception("a gRPC call failed", error=repr(error))
            status = CallStatus(grpc.StatusCode.INTERNAL, "Internal server error.")
        return await call.abort(status.code, status.details)

    kinds = {
        (False, False): grpc.unary_unary_rpc_method_handler,
        (False, True): grpc.unary_stream_rpc_method_handler,
        (True, True): grpc.stream_stream_rpc_method_handler,
    }
    make: Any = kinds[rpc.reads_stream, rpc.writes_stream]
    handler: Handler = make(
        answer,
        request_deserializer=rpc.request.FromString,
        response_serializer=_serialized,
    )
    return handler


def _serialized(message: Message) -> bytes:
    return message.SerializeToString()


def _refusal(status: CallStatus) -> Handler:
    """A handler that reads nothing: right for calls of every kind."""

    async def refuse(_requests: Any, call: Call) -> None:
        await call.abort(status.code, status.details)

    make: Any = grpc.stream_stream_rpc_method_handler
    handler: Handler = make(refuse)
    return handler
