"""Connections that are held and not used: opens so many, asks once on each, and keeps them until
its input ends. Prints a line when all are there."""

from __future__ import annotations

import resource
import socket
import sys

PING = b"GET /ping HTTP/1.1\r\nHost: bench\r\n\r\n"
ANSWER_BYTES = 4096


def main(address: str, count: str) -> None:
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    host, _, port = address.rpartition(":")
    held = [opened(host, int(port)) for _ in range(int(count))]
    print(len(held), flush=True)
    sys.stdin.read()


def opened(host: str, port: int) -> socket.socket:
    """A connection on which one request has been answered."""
    client = socket.create_connection((host, port))
    client.sendall(PING)
    if not client.recv(ANSWER_BYTES).startswith(b"HTTP/1.1 200"):
        raise SystemExit("the server refuses connections")
    return client


if __name__ == "__main__":
    main(*sys.argv[1:])
