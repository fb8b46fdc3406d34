"""TorchServe's wire: replies as its server reads them, orders as it sends them."""

from __future__ import annotations

import struct

import pytest
from ts.context import Context, RequestProcessor
from ts.protocol import otf_message_handler as wire

END = struct.pack("!i", -1)


def number(value: int) -> bytes:
    return struct.pack("!i", value)


def text(value: bytes) -> bytes:
    return number(len(value)) + value


class Reader:
    """A connection that gives one byte at a time."""

    def __init__(self, data: bytes) -> None:
        self.data = data

    def recv(self, _size: int, /) -> bytes:
        piece, self.data = self.data[:1], self.data[1:]
        return piece


def context() -> Context:
    subject = Context("m", "/m", {}, 1, None)
    subject.begin_batch(["id0"], [RequestProcessor({})])
    return subject


def test_a_reply_names_each_request_with_its_status_headers_and_body() -> None:
    subject = context()
    subject.set_response_status(201, "Made", 0)
    subject.set_response_content_type(0, "text/plain")
    reply = wire.create_predict_response(["hi"], {0: "id0"}, "fine", 200, subject)
    head = number(200) + text(b"fine") + text(b"id0") + text(b"text/plain")
    status = number(201) + text(b"Made") + number(1) + text(b"content-type") + text(b"text/plain")
    assert bytes(reply) == head + status + text(b"hi") + END


def test_a_reply_without_a_context_has_the_code_and_json_bodies() -> None:
    reply = wire.create_predict_response([{"a": 1}], {0: "i"}, "m", 503)
    assert text(b'{\n  "a": 1\n}') + END in bytes(reply)
    assert wire.create_load_model_response(507, "full") == number(507) + text(b"full") + END


def test_an_order_to_load_is_read() -> None:
    fields = text(b"m") + text(b"/p") + number(4) + text(b"h.py") + number(-1) + text(b"json")
    command, order = wire.retrieve_msg(Reader(b"L" + fields + b"\1"))
    assert command == b"L"
    assert order["batchSize"] == 4
    assert (order["gpu"], order["limitMaxImagePixels"]) == (None, True)


def test_an_order_to_predict_is_read() -> None:
    headers = text(b"X") + text(b"y") + END
    parameters = text(b"body") + text(b"text/plain") + text(b"hello") + END
    _, requests = wire.retrieve_msg(Reader(b"I" + text(b"id") + headers + parameters + END))
    assert requests[0]["headers"] == [{"name": b"X", "value": b"y"}]
    assert requests[0]["parameters"][0]["value"] == b"hello"


@pytest.mark.parametrize(
    ("data", "error"),
    [(b"Z", ValueError), (b"I" + number(3), EOFError), (b"I" + number(-2), ValueError)],
)
def test_what_is_no_order_is_refused(data: bytes, error: type[Exception]) -> None:
    with pytest.raises(error):
        wire.retrieve_msg(Reader(data))
