"""What crosses between bodies and handlers: rows made from requests, answers made from results.

The rules are TorchServe's: which body becomes what in a handler's row, and which result becomes
what in an answer. JSON itself is in json_text.py; calling the handler is in loader.py."""

from __future__ import annotations

import io
import re
import sys
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, NamedTuple
from urllib.parse import unquote_to_bytes

from tsd.errors import BadRequest
from tsd.ipc.layout import INPUT, NO_INPUTS, PARAMETER, Outcome, unpack_pairs
from tsd.worker import json_text

MAX_TRACEBACK_BYTES = 16_384
MAX_FORM_PARTS = 1_024
FORM_PIECE_BYTES = 65_536
REMEMBERED_HEAD_BYTES = 1_024

Body = bytes | bytearray | memoryview
Hand = Callable[[Body], Body]
Headers = Sequence[tuple[str, str]]

# In a header, these would end it, or the field of the head block that carries it.
UNSAFE_IN_HEADER = re.compile(r"[\0\r\n]")


class RequestHead(NamedTuple):
    """What the fields of a head block say. One for all requests that have the same."""

    headers: list[tuple[str, str]]
    # Of the query, before what the body says.
    parameters: list[tuple[str, bytes]]
    # Names and sizes of what the body is made of; None: the body is as HTTP brought it.
    inputs: list[tuple[str, int]] | None
    content_type: str
    # As TorchServe: letter case counts, but for one of the two forms, and so does a blank.
    media_type: str
    # Where the body is all that there is, and no form: the types of the only input.
    media_types: dict[str, str] | None


@dataclass(slots=True)
class Answer:
    """What becomes of one request. `message`: for the client if REFUSED or BAD_OUTPUT, else for
    the log; a batch that raised carries its traceback once, in its first answer."""

    outcome: Outcome
    status: int = 200
    reason: str = ""
    headers: Headers = ()
    body: Body = b""
    message: str = ""


class Bodies(list[Body]):
    """The answers of a batch that are nothing but bodies: what most handlers give."""


def answers_with(answers: Bodies | list[Answer]) -> list[Answer]:
    """The same as answers, whatever they are."""
    if isinstance(answers, Bodies):
        return [Answer(Outcome.OK, body=body) for body in answers]
    return answers


class FormField(NamedTuple):
    """One field of a form."""

    name: str
    media_type: str
    data: Body


def head_of(fields: bytes) -> RequestHead:
    """What the fields of a head block say."""
    return (_remembered_head if len(fields) <= REMEMBERED_HEAD_BYTES else _head)(fields)


def _head(fields: bytes) -> RequestHead:
    headers: list[tuple[str, str]] = []
    parameters: list[tuple[str, bytes]] = []
    inputs: list[tuple[str, int]] | None = None
    for name, value in unpack_pairs(fields):
        if name.startswith(PARAMETER):
            parameters.append((name[1:].decode(errors="replace"), value))
        elif name.startswith(INPUT):
            inputs = inputs or []
            if name != NO_INPUTS:
                inputs.append((name[1:].decode(errors="replace"), int(value)))
        else:
            headers.append((name.decode("latin-1"), value.decode("latin-1")))
    content_type = header_value(headers, "content-type")
    media_type = content_type.partition(";")[0]
    is_plain = inputs is None and not parameters and _form(media_type.strip()) is None
    types = {"body": media_type} if is_plain else None
    return RequestHead(headers, parameters, inputs, content_type, media_type, types)


# A client sends the same headers again and again; nobody changes what is in them.
_remembered_head = lru_cache(maxsize=256)(_head)


def lent(data: Body) -> memoryview:
    """Bytes where they lie, to be read until the batch ends."""
    return memoryview(data).toreadonly()


def decoded_row(
    head: RequestHead, body: Body, *, decode_input: bool = True, hand: Hand = bytearray
) -> tuple[dict[str, Any], dict[str, str]]:
    """The row that a handler gets, and the media type of each of its values.

    `hand`: how bytes are handed over, as the handler's own or `lent`. BadRequest for a broken
    form."""
    if head.media_types is not None:
        value = _value(head.media_type, body, hand) if decode_input else hand(body)
        return {"body": value}, head.media_types
    if head.inputs is not None:
        return _named_inputs(head.inputs, body, hand)
    row: dict[str, Any] = {name: hand(value) for name, value in head.parameters}
    media_types = dict.fromkeys(row, "")
    of_body = _of_body(head, body, decode_input=decode_input, hand=hand)
    return row | of_body[0], media_types | of_body[1]


def _named_inputs(
    inputs: Sequence[tuple[str, int]], body: Body, hand: Hand
) -> tuple[dict[str, Any], dict[str, str]]:
    row: dict[str, Any] = {}
    begin = 0
    for name, size in inputs:
        row[name] = hand(body[begin : begin + size])
        begin += size
    return row, dict.fromkeys(row, "")


def _of_body(
    head: RequestHead, body: Body, *, decode_input: bool, hand: Hand
) -> tuple[dict[str, Any], dict[str, str]]:
    """The row that a body becomes, and the media type of each of its values."""
    fields = _form(head.media_type.strip())
    if fields is None:
        value = _value(head.media_type, body, hand) if decode_input else hand(body)
        return {"body": value}, {"body": head.media_type}
    row: dict[str, Any] = {}
    media_types: dict[str, str] = {}
    for name, part_type, data in fields(head.content_type, body):
        row[name] = _value(part_type, data, _own) if decode_input else _own(data)
        media_types[name] = part_type
    return row, media_types


def request_headers(
    headers: Headers, media_types: Mapping[str, str], body_bytes: int | None
) -> dict[str, Any]:
    """The one flat dict of headers that a handler sees, input types first.

    `body_bytes`: what HTTP's length says where the client did not; None where there is no HTTP."""
    flat: dict[str, Any] = {
        name: {"content-type": media_type} for name, media_type in media_types.items()
    }
    if body_bytes is not None and not any(name.lower() == "content-length" for name, _ in headers):
        flat["content-length"] = str(body_bytes)
    flat.update(headers)
    return flat


def header_value(headers: Headers, name: str) -> str:
    """The first value of a header, found in any case; an empty string when there is none."""
    for key, value in headers:
        if len(key) == len(name) and key.lower() == name:
            return value
    return ""


def encode(result: Any) -> Body:
    """The body for one result of a handler; TypeError or ValueError for what cannot be sent."""
    if isinstance(result, (bytes, bytearray)):
        return result
    if isinstance(result, (list, dict)):
        return json_text.dumps(result)
    if isinstance(result, str):
        return result.encode()
    # A result can only be a tensor where torch was imported: codec itself works without.
    torch = sys.modules.get("torch")
    if torch is not None and isinstance(result, torch.Tensor):
        stream = io.BytesIO()
        torch.save(result, stream)
        return stream.getbuffer()
    return json_text.dumps(result)


def encode_view(result: Any) -> Body:
    """As `encode`, for handlers that are lent views, and may answer with one."""
    return result.cast("B") if isinstance(result, memoryview) else encode(result)


def answer(body: Body, status: int, reason: str, headers: Mapping[str, Any]) -> Answer:
    """The answer of a handler that returned, with what it set for status and headers."""
    if status == 200 and not reason and not headers:
        return Answer(Outcome.OK, body=body)
    fields = [(str(name), str(value)) for name, value in headers.items()]
    if not 200 <= status <= 599:
        return bad_output(f"Invalid response status {status}.")
    if any(UNSAFE_IN_HEADER.search(text) for pair in [("", reason), *fields] for text in pair):
        return bad_output("Invalid character in a response header.")
    return Answer(Outcome.OK, status, reason, fields, body)


def bad_output(message: str) -> Answer:
    """The answer when the handler's result cannot be sent."""
    return Answer(Outcome.BAD_OUTPUT, 500, message=message)


def refused(message: object, status: object) -> Answer:
    """The answer that carries a handler's own status and text."""
    try:
        number = int(status)  # type: ignore[call-overload]
    except (TypeError, ValueError):
        number = 500
    # Text may hold lone surrogates, which have no bytes.
    text = str(message).encode(errors="replace").decode()
    return Answer(Outcome.REFUSED, number if 400 <= number <= 599 else 500, message=text)


def raised(error: Exception, count: int) -> list[Answer]:
    """The answers of a whole batch whose handler raised."""
    last_words = "".join(traceback.format_exception_only(error))
    is_memory = isinstance(error, MemoryError) or "CUDA" in last_words
    outcome = Outcome.OUT_OF_MEMORY if is_memory else Outcome.RAISED
    text = "".join(traceback.format_exception(error)).encode(errors="replace")
    message = text[-MAX_TRACEBACK_BYTES:].decode(errors="replace")
    return [Answer(outcome, 500, message=message if place == 0 else "") for place in range(count)]


def _value(media_type: str, data: Body, hand: Hand) -> Any:
    """What a handler gets for one input; bytes that are not what they claim to be stay bytes."""
    try:
        if media_type == "application/json":
            return json_text.loads(data)
        if media_type.startswith("text"):
            return str(data, "utf-8")
    except (ValueError, RecursionError):
        pass
    return hand(data)


def _own(data: Body) -> Body:
    """What was made for the handler only is not copied again."""
    return data if isinstance(data, bytearray) else bytearray(data)


def _urlencoded_fields(_: str, body: Body) -> Iterator[FormField]:
    for pair in bytes(body).split(b"&"):
        name, equals, value = pair.replace(b"+", b" ").partition(b"=")
        if equals:
            key = unquote_to_bytes(name).decode(errors="replace")
            yield FormField(key, "", unquote_to_bytes(value))


def _multipart_fields(content_type: str, body: Body) -> Iterator[FormField]:
    import multipart

    boundary = multipart.parse_options_header(content_type)[1].get("boundary", "")
    limits = {"content_length": len(body), "max_segment_count": MAX_FORM_PARTS}
    try:
        with multipart.PushMultipartParser(boundary, **limits) as parser:
            yield from _fields_of(parser, body)
    except (multipart.MultipartError, ValueError) as error:
        raise BadRequest(f"The form cannot be read: {error}") from error


def _fields_of(parser: Any, body: Body) -> Iterator[FormField]:
    """In pieces that stay in the processor's cache, so that a file is copied from memory once."""
    head: Any = None
    data = bytearray()
    for begin in range(0, len(body), FORM_PIECE_BYTES):
        # A part comes as its head, its data in pieces, and None.
        for part in parser.parse(bytes(body[begin : begin + FORM_PIECE_BYTES])):
            if part is None:
                yield FormField(head.name, _part_type(head), data)
            elif isinstance(part, bytes):
                data += part
            else:
                head, data = part, bytearray()


def _part_type(head: Any) -> str:
    """The media type of a part; TorchServe knows one only for files."""
    if head.filename is None:
        return ""
    declared = head.header("Content-Type", "application/octet-stream")
    return str(declared).partition(";")[0].strip()


MULTIPART, URLENCODED = "multipart/form-data", "application/x-www-form-urlencoded"


def _form(media_type: str) -> Callable[[str, Body], Iterator[FormField]] | None:
    """How the fields of a form are found; None for what is no form."""
    if media_type == MULTIPART:
        return _multipart_fields
    return _urlencoded_fields if media_type.lower() == URLENCODED else None
