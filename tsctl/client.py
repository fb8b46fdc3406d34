"""HTTP/1.1 on the daemon's control socket: one request a connection.

The standard library's client would do the same; to import it takes three times as long as
`tsctl list` itself; pathlib is left out for the same reason. What an answer means is left to the
commands."""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager, suppress
from io import BufferedIOBase
from typing import Any, NamedTuple

from tsctl.failure import Failure, Status, from_answer

# Answers that need no work of the daemon come at once, or it hangs.
ANSWER_TIMEOUT_S = 10.0
NDJSON = "application/x-ndjson"
LINE_BYTES = 65_536
MAX_HEADERS = 200


class Request(NamedTuple):
    """What is asked; a `timeout_s` of None waits as long as the daemon takes."""

    method: str
    target: str
    headers: Mapping[str, str] = {}
    body: bytes = b""
    timeout_s: float | None = None

    def to_bytes(self) -> bytes:
        headers = {"Host": "tsd", "Connection": "close", **self.headers}
        if self.body or self.method in ("POST", "PUT"):
            headers["Content-Length"] = str(len(self.body))
        lines = [f"{name}: {value}" for name, value in headers.items()]
        head = "\r\n".join([f"{self.method} {self.target} HTTP/1.1", *lines, "", ""])
        return head.encode("latin-1") + self.body


def target(*segments: str, **parameters: object) -> str:
    """A path of quoted segments, and those parameters that are not None."""
    from urllib.parse import quote, urlencode

    path = "".join("/" + quote(segment, safe="", errors="surrogateescape") for segment in segments)
    given = {name: value for name, value in parameters.items() if value is not None}
    query = urlencode({name: _word(value) for name, value in given.items()}, quote_via=quote)
    return f"{path}?{query}" if query else path


def _word(value: object) -> bytes:
    # Arguments may hold bytes that are no UTF-8: file names do.
    return os.fsencode(str(value).lower() if isinstance(value, bool) else str(value))


class Answer:
    """The head of an answer, and its body as it comes."""

    def __init__(self, path: str, reader: BufferedIOBase) -> None:
        self._path = path
        self._reader = reader
        self.status, self.headers = 0, dict[str, str]()

    def begin(self) -> None:
        """Wait for the status and the headers."""
        with _explained(self._path):
            self.status, self.headers = read_head(self._reader)

    @property
    def content_type(self) -> str:
        return self.headers.get("content-type", "").partition(";")[0].strip().lower()

    def read(self) -> bytes:
        with _explained(self._path):
            return b"".join(read_chunks(self._reader, self.headers))

    def json(self) -> Any:
        try:
            return json.loads(self.read())
        except ValueError as error:
            raise _not_understood(error) from None

    def records(self) -> Iterator[Any]:
        """The body's lines, each a JSON value, as soon as they are there."""
        lines = read_lines(read_chunks(self._reader, self.headers))
        while True:
            with _explained(self._path):
                line = next(lines, None)
            if line is None:
                return
            try:
                yield json.loads(line)
            except ValueError as error:
                raise _not_understood(error) from None


class Client:
    """Asks the daemon that listens on one control socket."""

    def __init__(self, path: str) -> None:
        self.path = path

    @contextmanager
    def ask(self, request: Request) -> Iterator[Answer]:
        """The daemon's answer; one that is no success is raised as a failure."""
        with closing(socket.socket(socket.AF_UNIX)) as connection:
            connection.settimeout(request.timeout_s)
            with _explained(self.path):
                connection.connect(self.path)
                # A daemon that refuses a large body answers before it has read it all.
                with suppress(BrokenPipeError, ConnectionResetError):
                    connection.sendall(request.to_bytes())
            with connection.makefile("rb") as reader:
                answer = Answer(self.path, reader)
                answer.begin()
                if not 200 <= answer.status < 300:
                    raise from_answer(answer.status, answer.read())
                yield answer

    def fetch(self, path: str) -> Any:
        """What a plain GET answers, decoded."""
        with self.ask(Request("GET", path, timeout_s=ANSWER_TIMEOUT_S)) as answer:
            return answer.json()


def default_socket(environment: Mapping[str, str], *, is_root: bool) -> str:
    """The socket of the user's own daemon where there is one, else the machine's."""
    if named := environment.get("TSD_SOCKET"):
        return named
    if (folder := environment.get("XDG_RUNTIME_DIR")) and not is_root:
        own = f"{folder}/tsd/control.sock"
        if os.access(own, os.F_OK):
            return own
    return "/run/tsd/control.sock"


def read_head(reader: BufferedIOBase) -> tuple[int, dict[str, str]]:
    """The status and the headers of the final answer; interim ones are passed over."""
    while True:
        version, _, rest = _read_line(reader).partition(" ")
        status = rest[:3]
        if not version.startswith("HTTP/1.") or not status.isdecimal():
            raise ConnectionError("what listens there does not speak HTTP")
        headers = _read_headers(reader)
        if int(status) >= 200:
            return int(status), headers


def _read_headers(reader: BufferedIOBase) -> dict[str, str]:
    headers: dict[str, str] = {}
    while line := _read_line(reader):
        name, _, value = line.partition(":")
        headers[name.strip().lower()] = value.strip()
        if len(headers) > MAX_HEADERS:
            raise ConnectionError("the answer has too many headers")
    return headers


def read_chunks(reader: BufferedIOBase, headers: Mapping[str, str]) -> Iterator[bytes]:
    """The body as it comes: chunked, of a known length, or up to the end of the connection."""
    if "chunked" in headers.get("transfer-encoding", "").lower():
        while size := int(_read_line(reader).partition(";")[0], 16):
            yield from _read_exactly(reader, size)
            _read_line(reader)
    elif "content-length" in headers:
        yield from _read_exactly(reader, int(headers["content-length"]))
    else:
        while data := reader.read1(LINE_BYTES):
            yield data


def read_lines(chunks: Iterator[bytes]) -> Iterator[bytes]:
    """Whole lines out of chunks that are cut anywhere; blank ones are dropped."""
    rest = b""
    for chunk in chunks:
        *whole, rest = (rest + chunk).split(b"\n")
        yield from (line for line in whole if line.strip())
    if rest.strip():
        yield rest


def _read_exactly(reader: BufferedIOBase, size: int) -> Iterator[bytes]:
    while size > 0:
        data = reader.read1(min(size, LINE_BYTES))
        if not data:
            raise ConnectionError("the answer ended early")
        size -= len(data)
        yield data


def _read_line(reader: BufferedIOBase) -> str:
    line = reader.readline(LINE_BYTES)
    if not line.endswith(b"\n"):
        raise ConnectionError("the answer ended early")
    return line.rstrip(b"\r\n").decode("latin-1")


@contextmanager
def _explained(path: str) -> Iterator[None]:
    """Turn what the socket says into a failure that tells the operator what to do."""
    try:
        yield
    except PermissionError as error:
        raise _not_permitted(path, error) from None
    except (OSError, ValueError) as error:
        raise _unreachable(path, error) from None


def _not_permitted(path: str, error: PermissionError) -> Failure:
    return Failure(
        Status.NOT_PERMITTED,
        f"you may not use the control socket {path}",
        error.strerror or str(error),
        f"run it as root, or as a member of the group that `ls -l {path}` shows",
    )


REASONS: dict[type[Exception], str] = {
    FileNotFoundError: "there is no such socket: the daemon does not run, or runs elsewhere",
    ConnectionRefusedError: "nothing listens on it: the daemon does not run",
    TimeoutError: "it did not answer in time",
}


def _unreachable(path: str, error: OSError | ValueError) -> Failure:
    return Failure(
        Status.UNREACHABLE,
        f"cannot reach the daemon at {path}",
        REASONS.get(type(error)) or getattr(error, "strerror", None) or str(error),
        "`systemctl start tsd` starts it; --socket PATH names another socket",
    )


def _not_understood(error: ValueError) -> Failure:
    return Failure(
        Status.FAILED,
        "the daemon's answer is not understood",
        f"it is not valid JSON: {error}",
        "use the tsctl of the daemon's own version: see `tsctl --version` and `tsd --version`",
    )
