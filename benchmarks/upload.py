"""The load of large bodies: blocking connections that each send one and wait for the answer.

wrk cannot choose the congestion control of its sockets, and one that paces (bbr) measures itself
on the loopback: here it is cubic, else reno, where the kernel lets us. Prints a line of JSON."""

from __future__ import annotations

import json
import socket
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

from benchmarks.load import quantile

UNPACED = (b"cubic", b"reno")
ANSWER_BYTES = 65_536


def main(url: str, body_file: str, content_type: str, connections: str, seconds: str) -> None:
    address, _, path = url.removeprefix("http://").partition("/")
    host, _, port = address.partition(":")
    body = Path(body_file).read_bytes()
    lines = (
        f"POST /{path} HTTP/1.1",
        f"Host: {address}",
        f"Content-Type: {content_type}",
        f"Content-Length: {len(body)}",
    )
    message = "\r\n".join([*lines, "", ""]).encode() + body
    sockets = [connect(host, int(port)) for _ in range(int(connections))]
    begun = time.perf_counter()
    end = begun + float(seconds)
    with ThreadPoolExecutor(len(sockets)) as threads:
        clients = [threads.submit(repeat, client, message, end) for client in sockets]
    took_us = sorted(time_us for client in clients for time_us in client.result() if time_us)
    figures = {
        "requests": len(took_us),
        "duration_us": 1e6 * (time.perf_counter() - begun),
        "p50_us": quantile(took_us, 0.5),
        "p99_us": quantile(took_us, 0.99),
        "failed": sum(not time_us for client in clients for time_us in client.result()),
        "note": f"congestion control {congestion_control(sockets[0])}",
    }
    print(json.dumps(figures))


def connect(host: str, port: int) -> socket.socket:
    client = socket.create_connection((host, port), timeout=30)
    for name in UNPACED:
        with suppress(OSError):
            client.setsockopt(socket.IPPROTO_TCP, socket.TCP_CONGESTION, name)
            break
    return client


def congestion_control(client: socket.socket) -> str:
    name = client.getsockopt(socket.IPPROTO_TCP, socket.TCP_CONGESTION, 16)
    return name.rstrip(b"\0").decode()


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
