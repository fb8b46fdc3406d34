"""The channel between two real sockets: whole notices, in order, also from the dead."""

from __future__ import annotations

import socket

import pytest

from tsd.errors import ProtocolError
from tsd.ipc.channel import channel_pair, receive_notice, send_notice
from tsd.ipc.layout import NOTICE_BYTES


def test_notices_arrive_whole_and_in_order() -> None:
    ours, theirs = channel_pair()
    with ours, theirs:
        for notice in (b"first", b"x" * NOTICE_BYTES):
            send_notice(theirs, notice)
        assert receive_notice(ours) == b"first"
        assert receive_notice(ours) == b"x" * NOTICE_BYTES
        with pytest.raises(BlockingIOError):
            receive_notice(ours)


def test_descriptors_travel_beside_a_notice() -> None:
    ours, theirs = channel_pair()
    with ours, theirs:
        send_notice(ours, b"here", [theirs.fileno()])
        message, descriptors, _, _ = socket.recv_fds(theirs, 100, 1)
        assert message == b"here"
        with socket.socket(fileno=descriptors[0]) as copy:
            assert copy.family == socket.AF_UNIX


def test_what_the_dead_had_said_arrives_though_they_left_notices_unread() -> None:
    ours, theirs = channel_pair()
    with ours:
        send_notice(ours, b"never read")
        send_notice(theirs, b"said")
        send_notice(theirs, b"said last")
        theirs.close()
        assert [receive_notice(ours) for _ in range(3)] == [b"said", b"said last", b""]


def test_a_notice_over_the_limit_is_neither_sent_nor_believed() -> None:
    ours, theirs = channel_pair()
    with ours, theirs:
        with pytest.raises(ProtocolError):
            send_notice(ours, b"x" * (NOTICE_BYTES + 1))
        theirs.send(b"x" * (NOTICE_BYTES + 1))
        with pytest.raises(ProtocolError):
            receive_notice(ours)
