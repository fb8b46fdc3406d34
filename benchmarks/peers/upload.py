"""The load of large bodies, for servers whose answers may come in pieces.

Otherwise as benchmarks/upload.py: blocking connections, cubic where the kernel lets us. Called as:
python -m benchmarks.peers.upload HOST:PORT MESSAGE_FILE CONNECTIONS SECONDS"""

from __future__ import annotations

import socket
import sys
import time
from http.client import HTTPException, HTTPResponse
from pathlib import Path

from benchmarks.upload import ask, connect


def main(place: str, message_file: str, connections: str, seconds: str) -> None:
    message = Path(message_file).read_bytes()
    sockets = [connect(place) for _ in range(int(connections))]
    ask(sockets, message, float(seconds), repeat)


def repeat(client: socket.socket, message: bytes, end: float) -> list[float]:
    """Ask until the time is over: microseconds of each answer; a 0, and no more, for a failure."""
    took_us: list[float] = []
    while (begun := time.perf_counter()) < end:
        if not is_answered(client, message):
            return [*took_us, 0.0]
        took_us.append(1e6 * (time.perf_counter() - begun))
    return took_us


def is_answered(client: socket.socket, message: bytes) -> bool:
    """Send it and read the whole answer."""
    try:
        client.sendall(message)
        with HTTPResponse(client, method="POST") as answer:
            answer.begin()
            answer.read()
    except (OSError, HTTPException):
        return False
    return answer.status == 200


if __name__ == "__main__":
    main(*sys.argv[1:])
