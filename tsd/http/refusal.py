"""What http/ answers by itself: to bytes that are no valid request, and when it is full."""

from __future__ import annotations

from tsd.http.message import REASONS, Response, whole


class MessageError(Exception):
    """What came is not a request that this server reads; `status` is the answer."""

    def __init__(self, status: int) -> None:
        super().__init__(REASONS[status].decode())
        self.status = status


def refusal(status: int, kind: str, message: str) -> bytes:
    """A whole answer in TorchServe's form; the connection ends with it."""
    body = f'{{\n  "code": {status},\n  "type": "{kind}",\n  "message": "{message}"\n}}\n'
    head = b"content-type: application/json\r\n"
    response = Response(status, body.encode(), head, REASONS[status])
    return whole(response, has_body=True, is_last=True)


def refused(status: int, head: bytes = b"", *, has_begun: bool = False) -> bytes:
    """The answer, with header lines that stand in all answers of the application.

    `has_begun`: a part of the body had been read already; so TorchServe says that it closes."""
    whole_answer = REFUSALS[status]
    if head:
        whole_answer = whole_answer.replace(b"content-type:", head + b"content-type:", 1)
    if status == TOO_LARGE and has_begun:
        whole_answer = whole_answer.replace(b"\r\n\r\n", b"\r\nconnection: close\r\n\r\n")
    return whole_answer


TOO_LARGE = 413

# 413 is byte for byte what TorchServe sends.
REFUSALS = {
    400: refusal(400, "BadRequestException", "Invalid HTTP message."),
    408: refusal(408, "RequestTimeoutException", "The request took too long to arrive."),
    413: b"HTTP/1.1 413 Request Entity Too Large\r\ncontent-length: 0\r\n\r\n",
    414: refusal(414, "BadRequestException", "The request target is too long."),
    417: refusal(417, "BadRequestException", "The expectation cannot be met."),
    431: refusal(431, "BadRequestException", "The request's headers are too large."),
    501: refusal(501, "BadRequestException", "The method is not implemented."),
    503: b"HTTP/1.1 503 Service Unavailable\r\nretry-after: 1\r\n"
    b"content-length: 0\r\nconnection: close\r\n\r\n",
    505: refusal(505, "BadRequestException", "The HTTP version is not supported."),
}
