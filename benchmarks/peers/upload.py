"""The load of large bodies, for servers whose answers may come in pieces.

Otherwise as benchmarks/upload.py: blocking connections, cubic where the kernel lets us. Called as:
python -m benchmarks.peers.upload HOST:PORT MESSAGE_FILE CONNECTIONS SECONDS"""

from __future__ import annotations

import json
import socket
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from http.client import HTTPException, HTTPResponse
from pathlib import Path

from benchmarks.load import summary
from benchmarks.upload import connect, note


def main(place: str, message_file: str, connections: str, seconds: str) -> None:
    message = Path(message_file).read_bytes()
    sockets = [connect(place) for _ in range(int(connections))]
    begun = time.perf_counter()
    end = begun + float(seconds)
    with ThreadPoolExecutor(len(sockets)) as threads:
        clients = [threads.submit(repeat, client, message, end) for client in sockets]
    took_us = [time_us for client in clients for time_us in client.result()]
    answered_us = [time_us for time_us in took_us if time_us]
    duration_us = 1e6 * (time.perf_counter() - begun)
    figures = summary(answered_us, duration_us, len(took_us) - len(answered_us))
    print(json.dumps(figures | {"note": note(sockets[0])}))


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
