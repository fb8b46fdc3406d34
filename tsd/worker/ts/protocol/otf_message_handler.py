"""The wire between TorchServe's server and its workers, for code that imports its functions.

tsd's own workers speak another one (tsd/ipc); handlers' only reason to come here is the first
function, which moved to `ts.handler_utils.utils` long ago. Numbers are big-endian and signed,
four bytes; texts and bodies are preceded by their length; -1 ends a list."""

from __future__ import annotations

import json
import struct
from collections.abc import Callable, Mapping
from typing import Any, Protocol

from ts.context import Context
from ts.handler_utils import utils
from ts.utils.util import deprecated

END = struct.pack("!i", -1)
MAX_FIELD_BYTES = 1 << 30
STREAM_NEXT = "ts_stream_next"


class Connection(Protocol):
    """What is needed of a socket."""

    def recv(self, size: int, /) -> bytes: ...


@deprecated("0.9.0", "ts.handler_utils.utils.send_intermediate_predict_response")
def send_intermediate_predict_response(
    ret: list[Any], req_id_map: dict[int, str], message: str, code: int, context: Context
) -> None:
    """As the function of that name in `ts.handler_utils.utils`."""
    utils.send_intermediate_predict_response(ret, req_id_map, message, code, context)


def create_predict_response(
    ret: list[Any] | None,
    req_id_map: Mapping[int, str],
    message: str,
    code: int,
    context: Context | None = None,
    *,
    ts_stream_next: bool = False,
) -> bytearray:
    """A worker's reply: one prediction for each request id; without any, the message is each."""
    reply = bytearray(_number(code) + _text(message))
    for place, request_id in req_id_map.items():
        headers = {} if context is None else dict(context.get_response_headers(place))
        if ts_stream_next:
            headers[STREAM_NEXT] = "true"
        status, phrase = (code, "") if context is None else context.get_response_status(place)
        reply += _text(request_id) + _text(str(headers.get("content-type", "")))
        reply += _number(status) + _text(phrase or "") + _number(len(headers))
        for name, value in headers.items():
            reply += _text(str(name)) + _text(str(value))
        reply += _bytes(_body(message if ret is None else ret[place]))
    return reply + END


def create_load_model_response(code: int, message: str) -> bytearray:
    """A worker's reply to the order to load a model."""
    return bytearray(_number(code) + _text(message) + END)


def retrieve_msg(conn: Connection) -> tuple[bytes, Any]:
    """The next order: `L` and the model to load, or `I` and the requests to answer.

    Raises ValueError for anything else, EOFError where the connection ends."""
    command = _receive(conn, 1)
    read = ORDERS.get(command)
    if read is None:
        raise ValueError(f"unknown order: {command!r}")
    return command, read(conn)


def _load_order(conn: Connection) -> dict[str, Any]:
    order: dict[str, Any] = {"modelName": _field(conn), "modelPath": _field(conn)}
    order["batchSize"] = _read_number(conn)
    order["handler"] = _field(conn)
    gpu = _read_number(conn)
    order["gpu"] = None if gpu < 0 else gpu
    order["envelope"] = _field(conn)
    order["limitMaxImagePixels"] = _receive(conn, 1) != b"\0"
    return order


def _predict_order(conn: Connection) -> list[dict[str, Any]]:
    requests = []
    while (size := _read_number(conn)) != -1:
        request: dict[str, Any] = {"requestId": _receive(conn, _checked(size))}
        request["headers"] = []
        while (size := _read_number(conn)) != -1:
            name = _receive(conn, _checked(size))
            request["headers"].append({"name": name, "value": _field(conn)})
        request["parameters"] = []
        while (size := _read_number(conn)) != -1:
            part: dict[str, Any] = {"name": _receive(conn, _checked(size)).decode()}
            part |= {"contentType": _field(conn).decode(), "value": _field(conn)}
            request["parameters"].append(part)
        requests.append(request)
    return requests


ORDERS: dict[bytes, Callable[[Connection], Any]] = {b"L": _load_order, b"I": _predict_order}


def _body(result: Any) -> bytes:
    if isinstance(result, bytes | bytearray):
        return bytes(result)
    return (result if isinstance(result, str) else json.dumps(result, indent=2)).encode()


def _number(value: int) -> bytes:
    return struct.pack("!i", value)


def _text(value: str) -> bytes:
    return _bytes(value.encode())


def _bytes(value: bytes) -> bytes:
    return _number(len(value)) + value


def _field(conn: Connection) -> bytes:
    return _receive(conn, _checked(_read_number(conn)))


def _checked(size: int) -> int:
    if not 0 <= size <= MAX_FIELD_BYTES:
        raise ValueError(f"a field of {size} bytes")
    return size


def _read_number(conn: Connection) -> int:
    number: int = struct.unpack("!i", _receive(conn, 4))[0]
    return number


def _receive(conn: Connection, size: int) -> bytes:
    data = bytearray()
    while len(data) < size:
        piece = conn.recv(size - len(data))
        if not piece:
            raise EOFError("the connection ended within a message")
        data += piece
    return bytes(data)
