"""The channel: one SOCK_SEQPACKET pair between the daemon and a worker, a packet a notice.

The kernel gives order, wake-up, memory ordering on every processor, and end of file when the
other side dies. What a notice holds is said in layout.py."""

from __future__ import annotations

import socket
from collections.abc import Sequence

from tsd.errors import ProtocolError
from tsd.ipc.layout import NOTICE_BYTES

# A full notice must fit at once: the daemon never waits for a worker to read.
BUFFER_BYTES = 4 * NOTICE_BYTES


def channel_pair() -> tuple[socket.socket, socket.socket]:
    """The daemon's end, which never blocks, and the worker's end, which does."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    for end in (ours, theirs):
        end.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, BUFFER_BYTES)
    ours.settimeout(0)
    return ours, theirs


def send_notice(end: socket.socket, notice: bytes, descriptors: Sequence[int] = ()) -> None:
    """Hand one notice over, with file descriptors beside it where it has some.

    Raises ProtocolError when it is too long, BlockingIOError when the other side does not read,
    and other OSErrors when it is gone."""
    if len(notice) > NOTICE_BYTES:
        raise ProtocolError(f"a notice of {len(notice)} bytes; the limit is {NOTICE_BYTES}")
    if descriptors:
        socket.send_fds(end, [notice], list(descriptors))
    else:
        end.send(notice)


def receive_notice(end: socket.socket, flags: int = 0) -> bytes:
    """The next notice; empty at end of file. ProtocolError for one over the limit.

    BlockingIOError when none is there and the end, or MSG_DONTWAIT in `flags`, does not wait."""
    try:
        notice = end.recv(NOTICE_BYTES + 1, flags)
    except ConnectionResetError:
        # Told once, ahead of all else, when the other side died with notices unread. What it had
        # said before is still there.
        notice = end.recv(NOTICE_BYTES + 1, flags)
    if len(notice) > NOTICE_BYTES:
        raise ProtocolError(f"a notice is longer than {NOTICE_BYTES} bytes")
    return notice
