"""The load of large bodies: blocking connections that each send one and wait for the answer.

wrk cannot choose the congestion control of its sockets, and one that paces (bbr) measures itself
on the loopback: here it is cubic, else reno, where the kernel lets us. Prints a line of JSON."""

from __future__ import annotations

import json
import socket
import sys
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

from benchmarks.load import summary

UNPACED = (b"cubic", b"reno")
ANSWER_BYTES = 65_536
ANSWER_S = 30


def main(url: str, body_file: str, content_type: str, connections: str, seconds: str) -> None:
    place, path = parts(url)
    body = Path(body_file).read_bytes()
    lines = (
        f"POST {path} HTTP/1.1",
        "Host: bench",
        f"Content-Type: {content_type}",
        f"Content-Length: {len(body)}",
    )
    message = "\r\n".join([*lines, "", ""]).encode() + body
    sockets = [connect(place) for _ in range(int(connections))]
    ask(sockets, message, float(seconds), repeat)


Repeat = Callable[[socket.socket, bytes, float], list[float]]


def ask(sockets: Sequence[socket.socket], message: bytes, seconds: float, repeat: Repeat) -> None:
    """Have `repeat` send the message over each socket until the time is over; print the figures."""
    begun = time.perf_counter()
    end = begun + seconds
    with ThreadPoolExecutor(len(sockets)) as threads:
        clients = [threads.submit(repeat, client, message, end) for client in sockets]
    took_us = [time_us for client in clients for time_us in client.result()]
    answered_us = [time_us for time_us in took_us if time_us]
    duration_us = 1e6 * (time.perf_counter() - begun)
    figures = summary(answered_us, duration_us, len(took_us) - len(answered_us))
    print(json.dumps(figures | {"note": note(sockets[0])}))


def parts(url: str) -> tuple[str, str]:
    """`HOST:PORT` or a socket's path, and the path that is asked for."""
    if url.startswith("unix:"):
        place, _, path = url.removeprefix("unix:").partition(":")
        return place, path
    place, _, path = url.removeprefix("http://").partition("/")
    return place, f"/{path}"


def connect(place: str) -> socket.socket:
    if place.startswith("/"):
        client = socket.socket(socket.AF_UNIX)
        client.settimeout(ANSWER_S)
        client.connect(place)
        return client
    host, _, port = place.rpartition(":")
    client = socket.create_connection((host, int(port)), timeout=ANSWER_S)
    for name in UNPACED:
        with suppress(OSError):
            client.setsockopt(socket.IPPROTO_TCP, socket.TCP_CONGESTION, name)
            break
    return client


def note(client: socket.socket) -> str:
    if client.family == socket.AF_UNIX:
        return ""
    name = client.getsockopt(socket.IPPROTO_TCP, socket.TCP_CONGESTION, 16)
    return f"congestion control {name.rstrip(bytes(1)).decode()}"


def repeat(client: socket.socket, message: bytes, end: float) -> list[float]:
    """Ask until the time is over: microseconds of each answer; a 0 for one that failed."""
    took_us: list[float] = []
    while (begun := time.perf_counter()) < end:
        try:
            client.sendall(message)
            # The answers are of a few bytes: they come whole.
            is_right = client.recv(ANSWER_BYTES).startswith(b"HTTP/1.1 200")
        except OSError:
            is_right = False
        took_us.append(1e6 * (time.perf_counter() - begun) if is_right else 0.0)
        if not is_right:
            break
    return took_us


if __name__ == "__main__":
    main(*sys.argv[1:])
