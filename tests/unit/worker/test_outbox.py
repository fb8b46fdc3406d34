"""What a worker says: within a notice, in the granted slot, or in pieces."""

from __future__ import annotations

import pytest

from tests.unit.worker.channel import NO_SEGMENT, FakeChannel
from tsd.ipc.layout import (
    INLINE_BYTES,
    NOTICE_BYTES,
    NoticeKind,
    Outcome,
    pack_notice,
    unpack_header,
    unpack_text,
)
from tsd.worker import codec
from tsd.worker.codec import Answer, Bodies
from tsd.worker.gpu import GpuMemory
from tsd.worker.outbox import MetricsSender, Outbox

LARGE = b"l" * (INLINE_BYTES + 1)


def outbox(channel: FakeChannel, segment: memoryview, limit: int = 1 << 20) -> Outbox:
    return Outbox(channel.as_socket(), segment, limit)


def ok(body: bytes, **headers: str) -> Answer:
    return codec.answer(body, 200, "", headers)


def test_a_large_answer_lies_in_the_granted_slot() -> None:
    channel, segment = FakeChannel(), memoryview(bytearray(16_384))
    outbox(channel, segment).send_answers(3, (0, 16_384), [1, 2], [ok(LARGE, X="y"), ok(b"s")])
    (header, first), (_, second) = channel.answers(segment)
    assert (header.batch_id, len(channel.sent)) == (3, 1)
    assert (first.job_id, first.is_shared, bytes(first.body)) == (1, True, LARGE)
    assert first.head == b"\0X\0y"
    assert (second.job_id, second.is_shared, bytes(second.body)) == (2, False, b"s")


def test_where_the_grant_is_too_small_a_larger_one_is_asked_for() -> None:
    early = pack_notice(NoticeKind.STOP)
    channel = FakeChannel(early, pack_notice(NoticeKind.GRANT, 3, 64, 8_192))
    segment = memoryview(bytearray(16_384))
    subject = outbox(channel, segment)
    subject.send_answers(3, (0, 0), [1], [ok(LARGE)])
    need = unpack_header(channel.sent[0])
    assert (need.kind, need.batch_id) == (NoticeKind.NEED, 3)
    assert need.first >= len(LARGE)
    assert bytes(segment[64 : 64 + len(LARGE)]) == LARGE
    assert subject.receive() == early, "what came before the grant is not lost"


def test_an_answer_for_which_there_is_no_room_is_an_error() -> None:
    channel = FakeChannel(pack_notice(NoticeKind.GRANT, 3, 0, 0))
    outbox(channel, memoryview(b"")).send_answers(3, (0, 0), [1], [ok(LARGE)])
    (_, entry), *_ = channel.answers()
    assert entry.outcome is Outcome.BAD_OUTPUT


def test_the_worker_ends_where_the_daemon_goes_instead_of_granting() -> None:
    with pytest.raises(SystemExit):
        outbox(FakeChannel(), memoryview(b"")).send_answers(3, (0, 0), [1], [ok(LARGE)])


def test_an_answer_above_the_configured_size_is_not_sent() -> None:
    channel = FakeChannel()
    subject = outbox(channel, memoryview(b""), limit=10)
    subject.send_answers(1, (0, 0), [1, 2], [ok(b"x" * 11), ok(b"x" * 10)])
    (_, first), (_, second) = channel.answers()
    assert (first.outcome, second.outcome) == (Outcome.TOO_LARGE, Outcome.OK)


def test_a_long_piece_goes_in_several_notices() -> None:
    channel, text = FakeChannel(), bytes(range(256)) * 600
    outbox(channel, memoryview(b"")).send_part(5, 7, ok(text, A="b"))
    pieces = channel.answers()
    assert all(len(notice) <= NOTICE_BYTES for notice in channel.sent)
    assert b"".join(bytes(entry.body) for _, entry in pieces) == text
    assert {(h.kind, h.batch_id, e.job_id) for h, e in pieces} == {(NoticeKind.PARTS, 5, 7)}


def test_an_empty_piece_is_not_sent() -> None:
    channel = FakeChannel()
    outbox(channel, memoryview(b"")).send_part(5, 7, ok(b""))
    assert channel.sent == []


def test_what_was_measured_goes_in_as_many_notices_as_it_needs() -> None:
    channel, lines = FakeChannel(), [f"{number}-{'é' * 900}" for number in range(40)]
    outbox(channel, memoryview(b"")).send_metrics(lines)
    said = [unpack_text(notice) for notice in channel.sent]
    assert [line for text in said for line in text.splitlines()] == lines
    assert len(said) > 1


class NothingMeasured:
    has_pending = False

    def flush(self) -> list[str]:
        return []


def test_gpu_memory_is_told_when_it_has_changed() -> None:
    channel = FakeChannel()
    figures = iter([None, GpuMemory(5, 8), GpuMemory(5, 8), GpuMemory(0, 8)])
    sender = MetricsSender(outbox(channel, NO_SEGMENT), NothingMeasured(), lambda: next(figures))
    for _ in range(4):
        sender.send()
    told = [unpack_header(notice) for notice in channel.sent]
    assert [(one.kind, one.first, one.second) for one in told] == [
        (NoticeKind.MEMORY, 5, 8),
        (NoticeKind.MEMORY, 0, 8),
    ]


def test_small_bodies_are_bound_by_the_largest_answer_too() -> None:
    channel = FakeChannel()
    Outbox(channel.as_socket(), memoryview(b""), 100).send_answers(
        3, (0, 0), [1, 2], Bodies([b"x" * 1_000, b"ok"])
    )
    assert [answer.outcome for _, answer in channel.answers()] == [Outcome.TOO_LARGE, Outcome.OK]
