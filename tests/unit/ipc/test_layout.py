"""What one side packs the other unpacks, and no number of the other side is believed."""

from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tsd.errors import ProtocolError
from tsd.ipc.layout import (
    ANSWER,
    HEADER,
    MAX_BATCH_ROWS,
    NOTICE_BYTES,
    WIRE_VERSION,
    Header,
    NoticeKind,
    Outcome,
    OutgoingAnswer,
    Place,
    body_offset,
    inline_limit,
    pack_answers,
    pack_batch,
    pack_bodies,
    pack_fields,
    pack_notice,
    pack_text,
    slot_bytes,
    unpack_answers,
    unpack_batch,
    unpack_bodies,
    unpack_fields,
    unpack_header,
    unpack_pairs,
    unpack_text,
)
from tsd.ipc.segment import Slot

HEAD = st.binary(max_size=60)
BODY = st.binary(max_size=200)
ARENA = memoryview(b"")


@dataclass
class Travelling:
    id: int
    request_id: bytes
    fields: bytes
    body: bytes
    slot: Slot | None

    @property
    def head(self) -> bytes:
        return self.request_id + b"\0" + self.fields


def in_arena(arena: bytearray, jobs: list[Travelling], places: list[bool]) -> None:
    position = 0
    for job, is_placed in zip(jobs, places, strict=False):
        if is_placed:
            size = slot_bytes(len(job.head), len(job.body))
            job.slot = Slot(position, size)
            arena[position : position + len(job.head)] = job.head
            begin = position + body_offset(len(job.head))
            arena[begin : begin + len(job.body)] = job.body
            position = body_offset(position + size)


REQUEST_ID = st.binary(max_size=40).filter(lambda text: b"\0" not in text)
PARTS = st.lists(st.tuples(REQUEST_ID, st.sampled_from([b"", b"a", b"b\x00c"]), BODY), max_size=20)


@given(PARTS, st.lists(st.booleans(), max_size=20))
def test_a_batch_arrives_as_it_was_sent(
    parts: list[tuple[bytes, bytes, bytes]], places: list[bool]
) -> None:
    jobs = [Travelling(number, *part, None) for number, part in enumerate(parts)]
    arena = bytearray(16_384)
    in_arena(arena, jobs, places)
    notice = pack_batch(7, (64, 128), jobs)
    header = unpack_header(notice)
    kind = NoticeKind.BATCH if any(job.slot for job in jobs) else NoticeKind.SMALL_BATCH
    assert header == (kind, len(jobs), 7, 64, 128)
    entries = unpack_batch(notice, header, memoryview(arena).toreadonly())
    assert [(e.job_id, e.request_id, e.fields, bytes(e.body)) for e in entries] == [
        (job.id, job.request_id, job.fields, job.body) for job in jobs
    ]
    assert all(memoryview(entry.body).readonly for entry in entries)


ANSWER_HEAD = HEAD.filter(lambda head: head.count(b"\0") % 2 == 0)
ANSWERS = st.lists(
    st.tuples(ANSWER_HEAD, BODY, st.sampled_from(Outcome), st.integers(200, 599)), max_size=20
)


@given(ANSWERS, st.lists(st.booleans(), max_size=20))
def test_answers_arrive_as_they_were_sent(
    parts: list[tuple[bytes, bytes, Outcome, int]], places: list[bool]
) -> None:
    segment, position, answers = bytearray(16_384), 128, []
    for number, (head, body, outcome, status) in enumerate(parts):
        offset = None
        if number < len(places) and places[number]:
            offset, begin = position, position + body_offset(len(head))
            segment[offset : offset + len(head)] = head
            segment[begin : begin + len(body)] = body
            position = body_offset(begin + len(body))
        answers.append(OutgoingAnswer(number, outcome, status, head, body, offset))
    notice = pack_answers(9, answers)
    rows = unpack_header(notice).rows
    entries = unpack_answers(notice, rows, memoryview(segment), (128, 16_000))
    assert [(e.job_id, e.outcome, e.status, e.head, bytes(e.body)) for e in entries] == [
        (a.job_id, a.outcome, a.status, a.head, bytes(a.body)) for a in answers
    ]
    assert [entry.is_shared for entry in entries] == [a.offset is not None for a in answers]


@given(st.binary(max_size=400), st.integers(0, 40))
def test_no_bytes_of_a_worker_do_more_than_raise(noise: bytes, rows: int) -> None:
    segment = memoryview(bytearray(4_096))
    for notice in (noise, pack_answers(1, [])[:24] + noise):
        try:
            header = unpack_header(notice)
            entries = unpack_answers(notice, rows, segment, (1_024, 512))
        except ProtocolError:
            continue
        assert isinstance(header.kind, NoticeKind)
        assert all(len(entry.body) <= 4_096 for entry in entries)


@pytest.mark.parametrize(
    ("offset", "body_bytes", "head_bytes"),
    [(1_023, 1, 0), (1_536, 1, 0), (1_024, 513, 0), (1_024, 449, 1), (2**63, 1, 0), (0, 2**63, 0)],
)
def test_an_answer_outside_its_grant_is_not_believed(
    offset: int, body_bytes: int, head_bytes: int
) -> None:
    header = HEADER.pack(WIRE_VERSION, NoticeKind.ANSWERS, 0, 1, 1, 0, 0)
    notice = header + ANSWER.pack(1, offset, body_bytes, head_bytes, 200, Outcome.OK, Place.SLOT)
    with pytest.raises(ProtocolError):
        unpack_answers(notice, 1, memoryview(bytearray(4_096)), (1_024, 512))


@pytest.mark.parametrize(
    ("status", "outcome", "place"), [(199, 0, 0), (600, 0, 0), (200, 99, 0), (200, 0, 7)]
)
def test_an_answer_with_an_unknown_word_is_not_believed(
    status: int, outcome: int, place: int
) -> None:
    header = HEADER.pack(WIRE_VERSION, NoticeKind.ANSWERS, 0, 1, 1, 0, 0)
    notice = header + ANSWER.pack(1, HEADER.size + ANSWER.size, 0, 0, status, outcome, place)
    with pytest.raises(ProtocolError):
        unpack_answers(notice, 1, memoryview(b""), (0, 0))


@pytest.mark.parametrize(
    "notice",
    [b"", b"x" * 31, HEADER.pack(1, 1, 0, 0, 0, 0, 0), HEADER.pack(3, 99, 0, 0, 0, 0, 0)],
)
def test_a_foreign_header_is_not_believed(notice: bytes) -> None:
    with pytest.raises(ProtocolError):
        unpack_header(notice)


def test_a_head_with_a_lonely_name_is_not_believed() -> None:
    answers = [OutgoingAnswer(1, Outcome.OK, 200, b"reason\0name", b"body")]
    with pytest.raises(ProtocolError):
        unpack_answers(pack_answers(1, answers), 1, memoryview(b""), (0, 0))


def test_more_descriptors_than_bytes_are_not_believed() -> None:
    for rows in (1, MAX_BATCH_ROWS + 1, 2**32 - 1):
        with pytest.raises(ProtocolError):
            unpack_batch(pack_notice(NoticeKind.BATCH), rows_of(NoticeKind.BATCH, rows), ARENA)
        with pytest.raises(ProtocolError):
            unpack_bodies(pack_notice(NoticeKind.BODIES), rows)
        small = rows_of(NoticeKind.SMALL_BATCH, rows)
        with pytest.raises(ProtocolError):
            unpack_batch(pack_notice(NoticeKind.SMALL_BATCH), small, ARENA)


def rows_of(kind: NoticeKind, rows: int) -> Header:
    return Header(kind, rows, 1, 0, 0)


@given(st.lists(BODY, max_size=20))
def test_bodies_arrive_as_they_were_sent(bodies: list[bytes]) -> None:
    notice = pack_bodies(5, bodies)
    header = unpack_header(notice)
    assert header == (NoticeKind.BODIES, len(bodies), 5, 0, 0)
    assert unpack_bodies(notice, header.rows) == bodies


@given(st.binary(max_size=400), st.integers(0, 40), st.sampled_from([pack_bodies(1, []), b""]))
def test_no_noise_is_a_body_that_is_not_there(noise: bytes, rows: int, start: bytes) -> None:
    try:
        bodies = unpack_bodies(start + noise, rows)
    except ProtocolError:
        return
    assert HEADER.size + 4 * rows + sum(map(len, bodies)) == len(start + noise)


@given(st.binary(max_size=400), st.integers(0, 40))
def test_no_noise_is_a_job_that_is_not_there(noise: bytes, rows: int) -> None:
    header = rows_of(NoticeKind.SMALL_BATCH, rows)
    try:
        entries = unpack_batch(pack_notice(NoticeKind.SMALL_BATCH) + noise, header, ARENA)
    except ProtocolError:
        return
    assert len(entries) == rows


@given(st.integers(1, MAX_BATCH_ROWS))
def test_any_full_batch_of_inline_jobs_fits_one_notice(rows: int) -> None:
    limit = inline_limit(rows)
    # As full as can be: no two have the same fields.
    own = [b"%d" % number for number in range(rows)]
    jobs = [
        Travelling(number, b"", fields, b"x" * (limit - 1 - len(fields)), None)
        for number, fields in enumerate(own)
    ]
    assert len(pack_batch(1, (0, 0), jobs)) <= NOTICE_BYTES
    in_arena = [*jobs[1:], Travelling(rows, b"", b"", b"", Slot(0, 0))]
    assert len(pack_batch(1, (0, 0), in_arena)) <= NOTICE_BYTES
    answers = [OutgoingAnswer(job.id, Outcome.OK, 200, b"", job.body) for job in jobs]
    assert len(pack_answers(1, answers)) <= NOTICE_BYTES


FIELD = st.binary(max_size=20).filter(lambda field: b"\0" not in field)


@given(FIELD, st.lists(st.tuples(FIELD, FIELD), max_size=8))
def test_a_head_block_keeps_its_fields(first: bytes, pairs: list[tuple[bytes, bytes]]) -> None:
    assert unpack_fields(first + b"\0" + pack_fields(pairs)) == (first, pairs)
    assert unpack_pairs(pack_fields(pairs)) == pairs


def test_a_head_block_with_a_lonely_name_is_not_believed() -> None:
    with pytest.raises(ProtocolError):
        unpack_fields(b"id\0name")


def test_of_a_long_text_the_end_arrives() -> None:
    notice = pack_text(NoticeKind.FAILED, "x" * 20_000 + "the last line")
    assert len(notice) <= NOTICE_BYTES
    assert unpack_text(notice).endswith("the last line")
