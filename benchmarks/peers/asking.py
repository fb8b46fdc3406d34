"""A request, asked once to see that the answer is right, or over and over for a while."""

from __future__ import annotations

import contextlib
import math
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from typing import Any

from benchmarks.load import GRACE_S, Load, Outcome, cores, parse, pinned, wrk_command
from tsctl.failure import Failure, Status

ANSWER_S = 30.0
# Batches of different sizes add in different orders.
TOLERANCE = 1e-3


@dataclass(frozen=True)
class Request:
    """What one server is asked, in its own protocol; `value` is what an answer of it says."""

    path: str
    body: bytes
    content_type: str
    value: Callable[[bytes], Any]
    headers: tuple[str, ...] = ()

    def message(self) -> bytes:
        lines = (
            f"POST {self.path} HTTP/1.1",
            "Host: bench",
            f"Content-Type: {self.content_type}",
            f"Content-Length: {len(self.body)}",
            *self.headers,
        )
        return "\r\n".join([*lines, "", ""]).encode() + self.body


@dataclass(frozen=True)
class Asked:
    """A request and the server that it goes to."""

    request: Request
    port: int
    folder: Path

    def value(self) -> Any:
        """What the answer says; None where there is none yet."""
        headers = dict(line.split(": ") for line in self.request.headers)
        headers["Content-Type"] = self.request.content_type
        server = HTTPConnection("127.0.0.1", self.port, timeout=ANSWER_S)
        with contextlib.closing(server), contextlib.suppress(OSError, HTTPException):
            server.request("POST", self.request.path, self.request.body, headers)
            answer = server.getresponse()
            return self.request.value(answer.read()) if answer.status == 200 else None
        return None

    def load(self, connections: int, seconds: int, *, is_upload: bool) -> Outcome:
        """Ask for so long on so many connections."""
        command = self._upload if is_upload else self._wrk
        return run(command(connections, seconds))

    def _wrk(self, connections: int, seconds: int) -> list[str]:
        body_file = self.folder / "body"
        body_file.write_bytes(self.request.body)
        url = f"http://127.0.0.1:{self.port}{self.request.path}"
        plain = Load(url, body_file, self.request.content_type, connections, seconds)
        wrk, *words = wrk_command(plain)
        return [wrk, *(word for line in self.request.headers for word in ("-H", line)), *words]

    def _upload(self, connections: int, seconds: int) -> list[str]:
        message_file = self.folder / "message"
        message_file.write_bytes(self.request.message())
        place = f"127.0.0.1:{self.port}"
        words = (place, str(message_file), str(connections), str(seconds))
        return [sys.executable, "-m", "benchmarks.peers.upload", *words]


def run(command: Sequence[str]) -> Outcome:
    """The load's figures; it has a core of its own."""
    done = subprocess.run(
        pinned(command, cores()[1]),
        capture_output=True,
        text=True,
        timeout=2 * GRACE_S,
        check=False,
    )
    if done.returncode:
        raise Failure(
            Status.FAILED,
            f"the load did not run: {command[0]} ended with {done.returncode}",
            (done.stderr or done.stdout).strip()[-500:],
            "see that the server it was sent to still runs",
        )
    return parse(done.stdout)


def agrees(value: Any, expected: Any) -> bool:
    """Whether an answer says what the handler says, but for rounding."""
    if isinstance(expected, list):
        return (
            isinstance(value, list)
            and len(value) == len(expected)
            and all(map(agrees, value, expected))
        )
    if isinstance(expected, float) and isinstance(value, float):
        return math.isclose(value, expected, rel_tol=TOLERANCE, abs_tol=TOLERANCE)
    return bool(value == expected)
