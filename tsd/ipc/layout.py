"""What stands where: in a notice, in a slot, in the head block of a request or an answer.

A notice is one packet: a 32-byte header, `rows` descriptors of 32 bytes, then inline bytes.
Everything is little-endian and carries a version number. Functions here are pure; whoever reads
what the other side wrote gets a `ProtocolError` for every number that does not fit.

    slot of a job:   head block | padding to 64 bytes | body
    SMALL_BATCH:     for each job its id (8 bytes), for each its body's size (4), for each which
                     fields it has (2), for each its request id's size (2); the number of different
                     fields (4) and the size of each (4); request ids; fields; bodies
    BODIES:          the size of each body (4); bodies
    head block:      fields joined by NUL bytes (HTTP allows no NUL in a field)
        of a request:  request id, then its fields: name, value, name, value, …
        of an answer:  reason phrase, then name, value, …   (empty when there is nothing to say)

A name in a request's head block that begins with a sign which no HTTP header has is no header:

    ?NAME   a parameter of the query, NAME in UTF-8; the value as it was sent, decoded
    <NAME   an input whose bytes are the next so many (in decimal) of the body; without a NAME:
            there are such inputs, or none
"""

from __future__ import annotations

import enum
import struct
from collections.abc import Sequence
from functools import lru_cache
from itertools import accumulate, pairwise
from typing import NamedTuple, Protocol

from tsd.errors import ProtocolError

WIRE_VERSION = 3
NOTICE_BYTES = 65_536
INLINE_BYTES = 4_096
BODY_ALIGNMENT = 64
MAX_BATCH_ROWS = 1_024
MAX_TEXT_BYTES = 16_384
PARAMETER, INPUT = b"?", b"<"
NO_INPUTS = INPUT

# version, kind, unused, rows, batch id, and two numbers whose meaning depends on the kind
HEADER = struct.Struct("<HBBIQQQ")
# job id, offset, body bytes, head bytes, place
REQUEST = struct.Struct("<QQQII")
# job id, offset, body bytes, head bytes, status, outcome, place
ANSWER = struct.Struct("<QQQIHBB")


class NoticeKind(enum.IntEnum):
    """What a notice says; those below 10 go to a worker, the others come from one."""

    BATCH = 1  # here are jobs; first/second: offset and bytes of the granted answer slot
    GRANT = 2  # first/second: offset and bytes of the larger answer slot that was asked for
    STOP = 3  # finish and exit
    CANCEL = 4  # nobody waits for the answer of the job that `batch_id` names any more
    SMALL_BATCH = 5  # as BATCH, with jobs that are all inline, packed more closely
    PHASE = 10  # text: what the worker does before it is ready
    READY = 11  # the model is loaded and warm; first: 1 where batches overlap in the worker
    FAILED = 12  # text: the traceback that ended the loading
    NEED = 13  # first: bytes that the answers of the running batch need
    ANSWERS = 14  # the running batch is done
    PARTS = 15  # pieces of answers of the running batch; all inline
    METRICS = 16  # text: what the handler measured, a line each
    MEMORY = 17  # first/second: bytes of GPU memory in tensors, and taken from the driver
    BODIES = 18  # as ANSWERS, with answers that are all inline and say 200 and nothing but a body


class Place(enum.IntEnum):
    """Where the bytes of a descriptor lie."""

    INLINE = 0  # in the notice; the offset counts from its first byte
    SLOT = 1  # in shared memory; the offset counts from the segment's first byte


class Outcome(enum.IntEnum):
    """What became of one job in the worker."""

    OK = 0
    RAISED = 1
    OUT_OF_MEMORY = 2
    REFUSED = 3  # the handler raised PredictionException: its status, its text
    BAD_OUTPUT = 4
    TOO_LARGE = 5  # more bytes than the configuration allows for one answer


OUTCOMES = {outcome.value: outcome for outcome in Outcome}


# Made once: to ask the enumeration takes ten times as long.
KINDS = {kind.value: kind for kind in NoticeKind}
BATCHES = (NoticeKind.BATCH, NoticeKind.SMALL_BATCH)


class Header(NamedTuple):
    """The first 32 bytes of a notice."""

    kind: NoticeKind
    rows: int
    batch_id: int
    first: int
    second: int


class PlacedSlot(Protocol):
    """A piece of shared memory that holds a job's bytes."""

    @property
    def offset(self) -> int: ...


class Crossing(Protocol):
    """What `pack_batch` needs of a job."""

    @property
    def id(self) -> int: ...
    @property
    def request_id(self) -> bytes: ...
    @property
    def fields(self) -> bytes: ...
    @property
    def body(self) -> bytes | bytearray | memoryview: ...
    @property
    def slot(self) -> PlacedSlot | None: ...


class RequestEntry(NamedTuple):
    """One job as its worker sees it; `body` is read-only, a view where it lies in the arena."""

    job_id: int
    request_id: bytes
    fields: bytes
    body: bytes | memoryview


class AnswerEntry(NamedTuple):
    """One answer as the daemon sees it, every number checked; `is_shared`: body in the segment."""

    job_id: int
    outcome: Outcome
    status: int
    head: bytes
    body: memoryview
    is_shared: bool


class OutgoingAnswer(NamedTuple):
    """One answer as the worker packs it; `offset` is set when its bytes lie in the segment."""

    job_id: int
    outcome: Outcome
    status: int
    head: bytes
    body: bytes | bytearray | memoryview
    offset: int | None = None


def body_offset(head_bytes: int) -> int:
    """Where the body begins in a slot whose head block has that size."""
    return -(-head_bytes // BODY_ALIGNMENT) * BODY_ALIGNMENT


def slot_bytes(head_bytes: int, body_bytes: int) -> int:
    """The size of the slot that a head block and a body need together."""
    return body_offset(head_bytes) + body_bytes


def head_bytes(request_id: bytes, fields: bytes) -> int:
    """The size of a request's head block."""
    return len(request_id) + 1 + len(fields)


def write_head(memory: memoryview, offset: int, head: bytes, body_bytes: int) -> memoryview:
    """Begin a slot: its head block is written, and the room for its body is what comes back."""
    memory[offset : offset + len(head)] = head
    begin = offset + body_offset(len(head))
    return memory[begin : begin + body_bytes]


def inline_limit(batch_rows: int) -> int:
    """The most bytes (head and body) of a job sent inline: a full batch must be one notice."""
    room = (NOTICE_BYTES - HEADER.size) // max(batch_rows, 1) - max(REQUEST.size, ANSWER.size)
    return max(0, min(INLINE_BYTES, room))


def pack_fields(pairs: Sequence[tuple[bytes, bytes]]) -> bytes:
    """What follows the request id in a head block: names and values."""
    return b"\0".join([field for pair in pairs for field in pair])


def unpack_fields(head: bytes) -> tuple[bytes, list[tuple[bytes, bytes]]]:
    """The first field of a head block, and the names and values behind it."""
    first, _, rest = head.partition(b"\0")
    return first, unpack_pairs(rest)


def unpack_pairs(fields: bytes) -> list[tuple[bytes, bytes]]:
    """The inverse of `pack_fields`."""
    parts = fields.split(b"\0") if fields else []
    if len(parts) % 2:
        raise ProtocolError("a head block has a name without a value")
    return list(zip(parts[::2], parts[1::2], strict=True))


def pack_notice(kind: NoticeKind, batch_id: int = 0, first: int = 0, second: int = 0) -> bytes:
    """A notice without descriptors."""
    return HEADER.pack(WIRE_VERSION, kind, 0, 0, batch_id, first, second)


def pack_text(kind: NoticeKind, text: str) -> bytes:
    """A notice that carries text, cut at `MAX_TEXT_BYTES` (the end of a traceback says most)."""
    return pack_notice(kind) + text.encode(errors="replace")[-MAX_TEXT_BYTES:]


def unpack_text(notice: bytes) -> str:
    """The text of a notice made by `pack_text`."""
    return notice[HEADER.size :].decode(errors="replace")


def unpack_header(notice: bytes) -> Header:
    """The header of a notice, its version and kind checked."""
    if len(notice) < HEADER.size:
        raise ProtocolError(f"a notice of {len(notice)} bytes is shorter than its header")
    version, kind, _, count, batch_id, first, second = HEADER.unpack_from(notice)
    if version != WIRE_VERSION:
        raise ProtocolError(f"wire version {version}, this side speaks {WIRE_VERSION}")
    if kind not in KINDS:
        raise ProtocolError(f"unknown kind of notice: {kind}")
    return Header(KINDS[kind], count, batch_id, first, second)


def pack_batch(batch_id: int, grant: tuple[int, int], jobs: Sequence[Crossing]) -> bytes:
    """The notice that hands over `jobs`; those without a slot travel inside it."""
    if not any([job.slot for job in jobs]):  # noqa: C419 (a list takes half the time)
        return _pack_small_batch(batch_id, grant, jobs)
    position = HEADER.size + len(jobs) * REQUEST.size
    parts: list[bytes | bytearray | memoryview] = [
        HEADER.pack(WIRE_VERSION, NoticeKind.BATCH, 0, len(jobs), batch_id, *grant)
    ]
    inline: list[bytes | bytearray | memoryview] = []
    for job in jobs:
        body, slot, size = job.body, job.slot, head_bytes(job.request_id, job.fields)
        if slot is None:
            place = (job.id, position, len(body), size, Place.INLINE)
            position += size + len(body)
            inline += (job.request_id, b"\0", job.fields, body)
        else:
            place = (job.id, slot.offset, len(body), size, Place.SLOT)
        parts.append(REQUEST.pack(*place))
    return b"".join(parts + inline)


def _pack_small_batch(batch_id: int, grant: tuple[int, int], jobs: Sequence[Crossing]) -> bytes:
    """Measured: a third of what BATCH costs the daemon, and a quarter of what it costs the worker.

    Jobs of one client, and often of many, have equal fields, which cross once."""
    rows = len(jobs)
    kinds: dict[bytes, int] = {}
    kind_of = [kinds.setdefault(job.fields, len(kinds)) for job in jobs]
    ids = [job.request_id for job in jobs]
    bodies = [job.body for job in jobs]
    numbers = _small_rows(rows).pack(
        *[job.id for job in jobs], *map(len, bodies), *kind_of, *map(len, ids)
    )
    sizes = _sizes(len(kinds) + 1).pack(len(kinds), *map(len, kinds))
    head = HEADER.pack(WIRE_VERSION, NoticeKind.SMALL_BATCH, 0, rows, batch_id, *grant)
    return b"".join([head, numbers, sizes, *ids, *kinds, *bodies])


def unpack_batch(notice: bytes, header: Header, arena: memoryview) -> list[RequestEntry]:
    """The jobs of a BATCH or SMALL_BATCH notice; large bodies are views of the arena."""
    if header.kind == NoticeKind.SMALL_BATCH:
        return _unpack_small_batch(notice, header.rows)
    entries = []
    for job_id, offset, body_bytes, size, place in _descriptors(REQUEST, notice, header.rows):
        source, gap = memoryview(notice), size
        if place == Place.SLOT:
            source, gap = arena, body_offset(size)
        begin = offset + gap
        _check_range(offset, gap + body_bytes, len(source))
        request_id, _, fields = bytes(source[offset : offset + size]).partition(b"\0")
        body = source[begin : begin + body_bytes]
        entries.append(RequestEntry(job_id, request_id, fields, body))
    return entries


def _unpack_small_batch(notice: bytes, rows: int) -> list[RequestEntry]:
    try:
        numbers = _small_rows(rows).unpack_from(notice, HEADER.size)
        begin = HEADER.size + _small_rows(rows).size
        (kinds,) = _sizes(1).unpack_from(notice, begin)
        _, *sizes = _sizes(min(kinds, rows) + 1).unpack_from(notice, begin)
    except struct.error as error:
        raise ProtocolError("a notice is shorter than its batch") from error
    begin += _sizes(len(sizes) + 1).size
    body_sizes, kind_of, id_sizes = numbers[rows : 2 * rows], numbers[2 * rows :], numbers[-rows:]
    pieces = _cut(notice, begin, [*id_sizes, *sizes, *body_sizes])
    ids, fields, bodies = pieces[:rows], pieces[rows : rows + len(sizes)], pieces[-rows:]
    if max(kind_of[:rows], default=-1) >= len(sizes):
        raise ProtocolError("a job has fields that are not there")
    return [
        RequestEntry(job_id, request_id, fields[kind], body)
        for job_id, request_id, kind, body in zip(numbers, ids, kind_of, bodies, strict=False)
    ]


def _cut(notice: bytes, begin: int, sizes: Sequence[int]) -> list[bytes]:
    """All bytes from `begin` on, in pieces of these sizes."""
    ends = list(accumulate(sizes, initial=begin))
    if ends[-1] != len(notice):
        raise ProtocolError(f"a notice of {len(notice)} bytes holds {ends[-1]}")
    return [notice[start:end] for start, end in pairwise(ends)]


@lru_cache(maxsize=MAX_BATCH_ROWS)
def _small_rows(rows: int) -> struct.Struct:
    if rows > MAX_BATCH_ROWS:
        raise ProtocolError(f"a batch of {rows} rows; the limit is {MAX_BATCH_ROWS}")
    return struct.Struct(f"<{rows}Q{rows}I{rows}H{rows}H")


@lru_cache(maxsize=MAX_BATCH_ROWS)
def _sizes(count: int) -> struct.Struct:
    return struct.Struct(f"<{count}I")


def pack_bodies(batch_id: int, bodies: Sequence[bytes | bytearray | memoryview]) -> bytes:
    """The notice that gives a batch back whose answers are nothing but small bodies."""
    header = HEADER.pack(WIRE_VERSION, NoticeKind.BODIES, 0, len(bodies), batch_id, 0, 0)
    return b"".join([header, _sizes(len(bodies)).pack(*map(len, bodies)), *bodies])


def unpack_bodies(notice: bytes, rows: int) -> list[bytes]:
    """The answers of a BODIES notice, which must be as long as they are."""
    if rows > MAX_BATCH_ROWS:
        raise ProtocolError(f"a batch of {rows} rows; the limit is {MAX_BATCH_ROWS}")
    try:
        sizes = _sizes(rows).unpack_from(notice, HEADER.size)
    except struct.error as error:
        raise ProtocolError("a notice is shorter than its batch") from error
    return _cut(notice, HEADER.size + _sizes(rows).size, sizes)


def pack_answers(
    batch_id: int, answers: Sequence[OutgoingAnswer], kind: NoticeKind = NoticeKind.ANSWERS
) -> bytes:
    """The notice that gives a batch back; answers without an offset travel inside it."""
    position = HEADER.size + len(answers) * ANSWER.size
    parts: list[bytes | bytearray | memoryview] = [
        HEADER.pack(WIRE_VERSION, kind, 0, len(answers), batch_id, 0, 0)
    ]
    inline: list[bytes | bytearray | memoryview] = []
    for answer in answers:
        offset, place = answer.offset, Place.SLOT
        if offset is None:
            offset, place = position, Place.INLINE
            position += len(answer.head) + len(answer.body)
            inline += (answer.head, answer.body)
        sizes = (len(answer.body), len(answer.head))
        parts.append(
            ANSWER.pack(answer.job_id, offset, *sizes, answer.status, answer.outcome, place)
        )
    return b"".join(parts + inline)


def unpack_answers(
    notice: bytes, count: int, segment: memoryview, grant: tuple[int, int]
) -> list[AnswerEntry]:
    """The answers of an ANSWERS notice; bytes in the segment must lie within the grant."""
    view, notice_bytes = memoryview(notice), len(notice)
    granted_from, granted_bytes = grant
    entries = []
    # One pass with few calls: this runs for every prediction.
    for row in _descriptors(ANSWER, notice, count):
        job_id, offset, body_bytes, head_bytes, status, outcome, place = row
        if place == Place.INLINE:
            source, begin = view, offset + head_bytes
            is_inside = begin + body_bytes <= notice_bytes
        else:
            source, begin = segment, offset + body_offset(head_bytes)
            is_inside = granted_from <= offset and (
                begin + body_bytes <= granted_from + granted_bytes
            )
        if not is_inside or not 200 <= status <= 599 or outcome not in OUTCOMES:
            raise ProtocolError(f"an answer is not believed: {row}")
        head = bytes(source[offset : offset + head_bytes]) if head_bytes else b""
        if head.count(b"\0") % 2:
            raise ProtocolError("an answer's head block has a name without a value")
        body = source[begin : begin + body_bytes]
        is_shared = place == Place.SLOT
        entries.append(AnswerEntry(job_id, OUTCOMES[outcome], status, head, body, is_shared))
    return entries


def _descriptors(form: struct.Struct, notice: bytes, count: int) -> list[tuple[int, ...]]:
    end = HEADER.size + count * form.size
    if count > MAX_BATCH_ROWS or end > len(notice):
        raise ProtocolError(f"a notice of {len(notice)} bytes cannot hold {count} descriptors")
    rows = list(form.iter_unpack(notice[HEADER.size : end]))
    if any(row[-1] not in (Place.INLINE, Place.SLOT) for row in rows):
        raise ProtocolError("a descriptor names an unknown place")
    return rows


def _check_range(offset: int, size: int, limit: int) -> None:
    if offset < 0 or offset + size > limit:
        raise ProtocolError(f"a descriptor names bytes {offset}+{size} of {limit}")
