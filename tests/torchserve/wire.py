"""One HTTP request to a server, as bytes, and its whole answer.

Nothing is interpreted on the way: where chunks begin and what the reason phrase says is kept.
gRPC calls are made in calls.py; what the answers should be is said in verdict.py."""

from __future__ import annotations

import socket
import ssl
from collections.abc import Iterator
from dataclasses import dataclass
from typing import BinaryIO

CONNECT_S = 5.0
BODILESS = ("204", "304")


@dataclass(frozen=True)
class Address:
    """Where one port of the server is."""

    host: str
    port: int
    is_tls: bool = False


@dataclass(frozen=True)
class Reply:
    """One HTTP response; `chunks` is None when the body was not chunked."""

    status: str
    headers: dict[str, str]
    body: bytes
    chunks: list[bytes] | None = None


@dataclass(frozen=True)
class Silence:
    """No whole answer: `why` is empty when time ran out, else what happened."""

    why: str = ""


def send(address: Address, request: bytes, patience_s: float) -> Reply | Silence:
    """Send these bytes on a connection of their own and read one response."""
    try:
        with connected(address) as connection:
            connection.settimeout(patience_s)
            send_all(connection, request)
            with connection.makefile("rb") as stream:
                return read_reply(stream, has_body=not request.startswith(b"HEAD "))
    except TimeoutError:
        return Silence()
    except (OSError, ValueError) as error:
        return Silence(repr(error))


def connected(address: Address) -> socket.socket:
    connection = socket.create_connection((address.host, address.port), CONNECT_S)
    if not address.is_tls:
        return connection
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE  # the server's certificate is self-signed
    return context.wrap_socket(connection)


def send_all(connection: socket.socket, request: bytes) -> None:
    try:
        connection.sendall(request)
    except (BrokenPipeError, ConnectionResetError):
        return  # refused before its end: the answer may lie there already


def read_reply(stream: BinaryIO, *, has_body: bool) -> Reply:
    """The final response: interim ones (100 Continue) are passed over."""
    status = "1"
    while status.startswith("1"):
        status, headers = read_head(stream)
    if not has_body or status.startswith(BODILESS):
        return Reply(status, headers, b"")
    if headers.get("transfer-encoding", "").lower() == "chunked":
        chunks = list(read_chunks(stream))
        return Reply(status, headers, b"".join(chunks), chunks)
    return Reply(status, headers, stream.read(int(headers.get("content-length", "-1"))))


def read_head(stream: BinaryIO) -> tuple[str, dict[str, str]]:
    """Status with reason phrase, and headers; the values of one name are joined."""
    first = stream.readline().decode("latin-1")
    if not first.endswith("\n"):
        raise ValueError(f"closed after {first!r}")
    headers: dict[str, str] = {}
    while line := stream.readline().decode("latin-1").rstrip("\r\n"):
        name, _, value = line.partition(":")
        known = headers.get(name.lower())
        headers[name.lower()] = f"{known}, {value.strip()}" if known else value.strip()
    return first.rstrip("\r\n").partition(" ")[2], headers


def read_chunks(stream: BinaryIO) -> Iterator[bytes]:
    while size := int(stream.readline().partition(b";")[0], 16):
        yield stream.read(size)
        stream.readline()
    stream.readline()
