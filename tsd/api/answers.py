"""The bytes of answers: TorchServe's fixed headers, its JSON, and errors as statuses.

Formats: the recorded behaviour of TorchServe 0.12.0. Members and headers stand in its order."""

from __future__ import annotations

import json
import os

from tsd.errors import TsdError
from tsd.http.message import Response

# They follow the request's id.
COMMON_HEADERS = (
    b"\r\nPragma: no-cache\r\n"
    b"Cache-Control: no-cache; no-store, must-revalidate, private\r\n"
    b"Expires: Thu, 01 Jan 1970 00:00:00 UTC\r\n"
)
JSON_TYPE = b"content-type: application/json\r\n"
NDJSON_TYPE = b"content-type: application/x-ndjson\r\n"
OK = b"OK"
FIRST_ERROR, FIRST_SERVER_ERROR = 400, 500

TEXT = """\
200 OK
202 Accepted
206 Partial Content
400 Bad Request
401 Unauthorized
402 Payment Required
403 Forbidden
404 Not Found
405 Method Not Allowed
406 Not Acceptable
407 Proxy Authentication Required
408 Request Timeout
409 Conflict
410 Gone
411 Length Required
412 Precondition Failed
413 Request Entity Too Large
414 Request-URI Too Long
415 Unsupported Media Type
416 Requested Range Not Satisfiable
417 Expectation Failed
421 Misdirected Request
422 Unprocessable Entity
423 Locked
424 Failed Dependency
425 Unordered Collection
426 Upgrade Required
428 Precondition Required
429 Too Many Requests
431 Request Header Fields Too Large
500 Internal Server Error
501 Not Implemented
502 Bad Gateway
503 Service Unavailable
504 Gateway Timeout
505 HTTP Version Not Supported
506 Variant Also Negotiates
507 Insufficient Storage
510 Not Extended
511 Network Authentication Required"""
PHRASES = {int(line[:3]): line[4:].encode() for line in TEXT.splitlines()}

_fresh_ids: list[bytes] = []


def new_request_id() -> bytes:
    """A random UUID (version 4), but for its last two digits: in these a series of them counts."""
    if not _fresh_ids:
        digits = os.urandom(16).hex()
        first = f"{digits[:8]}-{digits[8:12]}-4{digits[13:16]}-a{digits[17:20]}-{digits[20:30]}"
        _fresh_ids.extend(f"{first}{last:02x}".encode("ascii") for last in range(256))
    return _fresh_ids.pop()


def head(request_id: bytes, extra: bytes = b"") -> bytes:
    """The headers that every answer has, and some more."""
    return b"x-request-id: " + request_id + COMMON_HEADERS + extra


def refusal_head() -> bytes:
    """What stands in answers to bytes that are no request, too."""
    return head(new_request_id())


def json_text(value: object) -> str:
    """As TorchServe's front end prints JSON: two spaces, no ASCII escapes."""
    return json.dumps(value, indent=2, ensure_ascii=False)


def json_body(value: object) -> bytes:
    """The same as a body: with a last newline."""
    return json_text(value).encode(errors="replace") + b"\n"


def json_answer(value: object, status: int = 200, request_id: bytes | None = None) -> Response:
    """A server-made JSON answer; from 400 on the connection is closed after it."""
    return Response(
        status,
        json_body(value),
        head(request_id or new_request_id(), JSON_TYPE),
        _phrase(status),
        is_last=status >= FIRST_ERROR,
    )


def text_answer(body: bytes, content_type: bytes) -> Response:
    """An answer that is not JSON."""
    return Response(200, body, head(new_request_id(), b"content-type: %b\r\n" % content_type), OK)


def error_status(error: TsdError, *, is_torchserve: bool) -> int:
    """The status of an error: TorchServe's on its own routes, tsd's on all others."""
    if is_torchserve and error.torchserve_status is not None:
        return error.torchserve_status
    return error.status


def error_members(error: TsdError, status: int, *, for_operator: bool) -> dict[str, object]:
    """The body of an error; operators are also told why, and what to do."""
    members: dict[str, object] = {
        "code": status,
        "type": error.torchserve_type,
        "message": str(error),
    }
    if for_operator:
        members |= {key: text for key, text in (("why", error.why), ("fix", error.fix)) if text}
    return members


def error_answer(
    error: TsdError,
    *,
    request_id: bytes | None = None,
    is_torchserve: bool = True,
    for_operator: bool = False,
) -> Response:
    """The answer that an error becomes."""
    status = error_status(error, is_torchserve=is_torchserve)
    extra = JSON_TYPE
    if error.retry_after_s is not None:
        extra += b"retry-after: %d\r\n" % max(1, round(error.retry_after_s))
    return Response(
        status,
        json_body(error_members(error, status, for_operator=for_operator)),
        head(request_id or new_request_id(), extra),
        _phrase(status),
        is_last=True,
    )


def _phrase(status: int) -> bytes:
    """The words of Netty, TorchServe's HTTP server: Python's change with its version."""
    if status in PHRASES:
        return PHRASES[status]
    whose = "Client" if status < FIRST_SERVER_ERROR else "Server"
    return f"{whose} Error ({status})".encode()
