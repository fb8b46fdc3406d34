"""tsctl predict: one input to a model, its answer to standard output or a file.

The bytes pass as they are; only a terminal gets them laid out and made harmless."""

from __future__ import annotations

import json
import sys
from argparse import Namespace
from contextlib import suppress
from pathlib import Path

from tsctl.client import Client, Request, target
from tsctl.console import Console
from tsctl.failure import Failure, Status
from tsctl.format import escape

CONTENT_TYPES = {
    ".json": "application/json",
    ".png": "image/png",
    ".jpg": "image/jpeg",
    ".jpeg": "image/jpeg",
    ".txt": "text/plain",
}
ANY_BYTES = "application/octet-stream"


def run(arguments: Namespace, client: Client, console: Console) -> None:
    with client.ask(predict_request(arguments)) as answer:
        body = answer.read()
    if arguments.output:
        arguments.output.write_bytes(body)
    elif console.output.isatty():
        console.show([readable(body)])
    else:
        console.output.buffer.write(body)


def predict_request(arguments: Namespace) -> Request:
    version = (arguments.version,) if arguments.version else ()
    path = target("predictions", arguments.model, *version)
    kind = arguments.content_type or content_type(arguments.file, arguments.data)
    return Request("POST", path, {"Content-Type": kind}, _input(arguments))


def content_type(file: str, data: str | None) -> str:
    """By the name of the file; a string is JSON if it can be read as such."""
    if data is None:
        return CONTENT_TYPES.get(Path(file).suffix.lower(), ANY_BYTES)
    try:
        json.loads(data)
    except ValueError:
        return CONTENT_TYPES[".txt"]
    return CONTENT_TYPES[".json"]


def _input(arguments: Namespace) -> bytes:
    if arguments.data is not None and arguments.file != "-":
        why = "both a file and --data are given"
        raise Failure(Status.USAGE, "there is one input to a prediction", why, "leave one out")
    if arguments.data is not None:
        return str(arguments.data).encode("utf-8", "surrogateescape")
    if arguments.file == "-":
        return sys.stdin.buffer.read()
    return Path(arguments.file).read_bytes()


def readable(body: bytes) -> str:
    """An answer for a terminal: JSON laid out, text made harmless, anything else refused."""
    try:
        text = body.decode("utf-8")
    except UnicodeDecodeError:
        raise _binary(body) from None
    with suppress(ValueError):
        text = json.dumps(json.loads(text), indent=2, ensure_ascii=False)
    return escape(text.rstrip("\n"), keep="\n\t")


def _binary(body: bytes) -> Failure:
    return Failure(
        Status.FAILED,
        "the answer is not shown",
        f"its {len(body)} bytes are not text, and this is a terminal",
        "write it to a file: -o FILE, or send it to another program",
    )
