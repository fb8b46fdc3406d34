"""Jobs that join a running batch, and leave it when they are finished."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tests.unit.worker.channel import FakeChannel, batch, job
from tsd.ipc.layout import NoticeKind, Outcome, pack_notice
from tsd.worker.loader import LoadedModel
from tsd.worker.outbox import Outbox
from tsd.worker.overlapping import ContinuousRunner

Load = Callable[..., LoadedModel]

# Each request is finished after as many steps as its body says; `0` raises.
STEPS = """
class H:
    def initialize(self, context): self.left = {}
    def handle(self, data, context):
        out, criteria = [], []
        for i, row in enumerate(data):
            key = context.get_request_id(i)
            if "body" in row: self.left[key] = int(row["body"])
            if self.left[key] == 0: raise ValueError("zero")
            self.left[key] -= 1
            out.append(f"{sorted(row)} of {len(data)};")
            criteria.append(lambda _result, left=self.left[key]: left == 0)
        context.stopping_criteria = criteria
        return out
"""

BY_HEADER = """
class H:
    def initialize(self, context): self.steps = 0
    def handle(self, data, context):
        self.steps += 1
        context.set_response_header(0, "ts_stream_next", "true" if self.steps < 2 else "false")
        return [str(self.steps)]
"""


def run(load_handler: Load, source: str, *notices: bytes) -> list[tuple[Any, int, str, bytes]]:
    """Kind, job, outcome and body of everything that the worker sends."""
    channel = FakeChannel(*notices)
    outbox = Outbox(channel.as_socket(), memoryview(b""), 1 << 20)
    ContinuousRunner(outbox, memoryview(b""), load_handler(source)).serve()
    return [(h.kind, e.job_id, e.outcome.name, bytes(e.body)) for h, e in channel.answers()]


def test_steps_go_on_until_each_job_is_finished(load_handler: Load) -> None:
    sent = run(load_handler, STEPS, batch(job(1, b"1"), job(2, b"3")))
    assert sent == [
        (NoticeKind.ANSWERS, 1, "OK", b"['body'] of 2;"),
        (NoticeKind.PARTS, 2, "OK", b"['body'] of 2;"),
        (NoticeKind.PARTS, 2, "OK", b"[] of 1;"),
        (NoticeKind.ANSWERS, 2, "OK", b"[] of 1;"),
    ]


def test_a_job_joins_between_two_steps(load_handler: Load) -> None:
    # Both notices are there before the first step.
    sent = run(load_handler, STEPS, batch(job(1, b"2")), batch(job(2, b"1")))
    assert [body for _, _, _, body in sent] == [b"['body'] of 2;"] * 2 + [b"[] of 1;"]


def test_a_handler_that_raises_ends_all_that_ran(load_handler: Load) -> None:
    sent = run(load_handler, STEPS, batch(job(1, b"2"), job(2, b"0")))
    assert [(number, outcome) for _, number, outcome, _ in sent] == [(1, "RAISED"), (2, "RAISED")]


def test_a_cancelled_job_takes_part_in_no_further_step(load_handler: Load) -> None:
    cancel = pack_notice(NoticeKind.CANCEL, 1)
    sent = run(load_handler, STEPS, batch(job(1, b"2"), job(2, b"1")), cancel)
    assert sent[0][:3] == (NoticeKind.ANSWERS, 1, Outcome.BAD_OUTPUT.name)
    assert sent[1:] == [(NoticeKind.ANSWERS, 2, "OK", b"['body'] of 1;")]


def test_told_to_stop_it_finishes_what_runs(load_handler: Load) -> None:
    sent = run(load_handler, STEPS, batch(job(1, b"2")), pack_notice(NoticeKind.STOP))
    assert [kind for kind, _, _, _ in sent] == [NoticeKind.PARTS, NoticeKind.ANSWERS]


def test_without_a_criterion_the_handlers_own_header_counts(load_handler: Load) -> None:
    sent = run(load_handler, BY_HEADER, batch(job(1)))
    assert [(kind, body) for kind, _, _, body in sent] == [
        (NoticeKind.PARTS, b"1"),
        (NoticeKind.ANSWERS, b"2"),
    ]


def test_a_broken_form_is_refused_at_once(load_handler: Load) -> None:
    fields = b"content-type\0multipart/form-data; boundary=B"
    sent = run(load_handler, STEPS, batch(job(1, b"junk", fields)))
    assert [(number, outcome) for _, number, outcome, _ in sent] == [(1, "REFUSED")]


def test_a_description_is_no_job_of_the_batch(load_handler: Load) -> None:
    describe = job(2, b"", b"describe\0True\0<\x000")
    sent = run(load_handler, STEPS, batch(job(1, b"2")), batch(describe))
    assert [(number, outcome) for _, number, outcome, _ in sent] == [
        (2, "RAISED"),  # This handler knows of no descriptions.
        (1, "OK"),
        (1, "OK"),
    ]
