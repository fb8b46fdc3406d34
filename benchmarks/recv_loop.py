"""The yardstick of large bodies: a blocking `recv_into` loop, a thread a connection.

It reads each body into memory that was used before, and answers. Prints its port when it
listens; given a path, it listens on a Unix socket there, and prints 0."""

from __future__ import annotations

import re
import socket
import sys
import threading
from contextlib import closing

from benchmarks.floor import ANSWER

HEAD_END = b"\r\n\r\n"
LENGTH = re.compile(rb"content-length: *(\d+)", re.IGNORECASE)
BUFFER_BYTES = 257 * 1024 * 1024

# Given back when a connection ends: memory touched for the first time costs ten times more.
free_buffers: list[bytearray] = []


def main(path: str = "") -> None:
    with listening(path) as listener:
        print(0 if path else listener.getsockname()[1], flush=True)
        while True:
            connection, _ = listener.accept()
            threading.Thread(target=serve, args=(connection,), daemon=True).start()


def listening(path: str) -> socket.socket:
    if not path:
        return socket.create_server(("127.0.0.1", 0), backlog=1024)
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(path)
    listener.listen(1024)
    return listener


def serve(connection: socket.socket) -> None:
    """Answer until the client closes."""
    buffer = free_buffers.pop() if free_buffers else bytearray(BUFFER_BYTES)
    try:
        with closing(connection), memoryview(buffer) as view:
            if connection.family != socket.AF_UNIX:
                connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            while receive_request(connection, view):
                connection.sendall(ANSWER)
    finally:
        free_buffers.append(buffer)


def receive_request(connection: socket.socket, view: memoryview) -> bool:
    """One request, head and body, into `view`; False at its end."""
    received = connection.recv_into(view)
    head, end, _ = bytes(view[: min(received, 4096)]).partition(HEAD_END)
    found = LENGTH.search(head)
    if not end or found is None:
        return False
    whole = len(head) + len(end) + int(found[1])
    while received < whole:
        count = connection.recv_into(view[received:whole])
        if not count:
            return False
        received += count
    return True


if __name__ == "__main__":
    main(*sys.argv[1:])
