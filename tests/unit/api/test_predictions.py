"""From a path to a job, and from its outcome to an answer; the model is a stand-in."""

from __future__ import annotations

import gc
from collections.abc import Callable
from typing import cast

import pytest

from tests.unit.http.wire import Client
from tsd.api.predictions import Predictions
from tsd.api.routes import Router, Routes
from tsd.errors import (
    HandlerRaised,
    NoWorkers,
    PredictionRefused,
    QueueFull,
    TokenRefused,
    TsdError,
)
from tsd.http.message import Request
from tsd.ipc.layout import body_offset, unpack_pairs
from tsd.ipc.segment import Slot, SlotAllocator
from tsd.metrics import ModelFigures
from tsd.serving.job import AnswerPart, Job
from tsd.serving.model import Model
from tsd.serving.registry import Named, Registry
from tsd.settings import ServingSettings

ARENA_BYTES = 1 << 20


class NoSequences:
    sequences = None
    is_stateful = False


class StandIn:
    """What predictions.py needs of a model; jobs stay in `jobs` until the test ends them."""

    name = "m"
    inline_bytes = 400
    stream_buffer_bytes = 100_000
    description = NoSequences()
    default_deadline_s = 30.0

    def __init__(self) -> None:
        self.figures = ModelFigures()
        self.arena_view = memoryview(bytearray(ARENA_BYTES))
        self.slots = SlotAllocator(ARENA_BYTES)
        self.jobs: list[Job] = []
        self.cancelled: list[Job] = []
        self.waiting: list[tuple[int, Callable[[Slot | None], None]]] = []
        self.has_room = True
        self.trouble: TsdError | None = None
        self.queue_trouble: TsdError | None = None

    @property
    def arena(self) -> SlotAllocator:
        return self.slots

    def check_open(self) -> None:
        if self.trouble is not None:
            raise self.trouble

    def take_slot(self, size: int, _deadline: float, then: Callable[[Slot | None], None]) -> None:
        if self.has_room:
            then(self.slots.take(size))
        else:
            self.waiting.append((size, then))

    def submit(self, job: Job) -> None:
        trouble = self.trouble or self.queue_trouble
        if trouble is not None:
            self.release(job)
            raise trouble
        self.jobs.append(job)

    def cancel(self, job: Job) -> None:
        self.cancelled.append(job)
        self.release(job)

    def release(self, job: Job) -> None:
        if job.slot is not None:
            self.slots.give_back(job.slot)

    def finish(self, body: bytes = b"done", head: bytes = b"", status: int = 200) -> None:
        job = self.jobs.pop(0)
        self.release(job)
        job.answered(body, status, head)
        self.figures.count_answered([job], 0.0, 1.0)


class Scene:
    """A client of the routes, with one model behind them."""

    def __init__(self) -> None:
        self.model = StandIn()
        self.named = Named(cast(Model, self.model))
        # How often the model was looked up; whether who asks is sent away.
        self.found = 0
        self.is_refused = False
        scene = self

        class Book:
            def named(self, name: str, version: str | None = None) -> Named:
                assert (name, version) in (("m", None), ("m", "1.0"))
                scene.found += 1
                return scene.named

        predictions = Predictions(cast(Registry, Book()), ServingSettings())
        routes = Routes(predictions.routes, check=self.check)
        self.client = Client(Router({"http": [routes]}).handle)

    def check(self, _request: Request) -> None:
        if self.is_refused:
            raise TokenRefused("Token Authorization failed.")

    def post(self, path: str, body: bytes, head: str = "") -> None:
        line = f"POST {path} HTTP/1.1\r\nHost: h\r\n{head}Content-Length: {len(body)}\r\n\r\n"
        self.client.send(line.encode() + body)

    @property
    def answer(self) -> bytes:
        self.client.turn()
        return self.client.got


@pytest.mark.parametrize("size", [0, 10, 1_000, 300_000])
@pytest.mark.parametrize("pieces", [1, 2, 7])
def test_a_body_of_any_size_becomes_a_job_and_its_answer_comes_back(size: int, pieces: int) -> None:
    scene = Scene()
    body = bytes(range(256)) * (size // 256) + b"x" * (size % 256)
    line = f"POST /predictions/m HTTP/1.1\r\nHost: h\r\nContent-Length: {size}\r\n\r\n".encode()
    whole = line + body
    scene.client.send(whole, [len(whole) * part // pieces for part in range(1, pieces)])
    job = scene.model.jobs[0]
    assert bytes(job.body) == body
    assert (job.slot is None) == (size <= 10)
    if job.slot is not None:
        view, offset = scene.model.arena_view, job.slot.offset
        head = job.request_id + b"\0" + job.fields
        assert bytes(view[offset : offset + len(head)]) == head
        begin = offset + body_offset(len(head))
        assert bytes(view[begin : begin + size]) == body
    scene.model.finish(b"answer")
    assert scene.answer.startswith(b"HTTP/1.1 200 \r\nx-request-id: ")
    assert scene.answer.endswith(b"\r\n\r\nanswer")
    assert scene.model.slots.used_bytes == 0
    assert scene.model.figures.requests == 1


def test_a_chunked_body_finds_its_place_when_its_size_is_known() -> None:
    for size in (5, 5_000):
        scene = Scene()
        head = b"POST /predictions/m HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n"
        scene.client.send(head + b"%x\r\n%b\r\n0\r\n\r\n" % (size, b"y" * size))
        assert bytes(scene.model.jobs[0].body) == b"y" * size
        assert (scene.model.jobs[0].slot is None) == (size == 5)


@pytest.mark.parametrize(
    ("path", "explain", "url_path"),
    [
        ("/predictions/m", b"False", b""),
        ("/predictions/m/1.0", b"False", b""),
        ("/predictions/m/1.0/a/b", b"False", b"a/b"),
        ("/explanations/m", b"True", b""),
    ],
)
def test_the_worker_is_told_the_headers_and_what_the_path_says(
    path: str, explain: bytes, url_path: bytes
) -> None:
    scene = Scene()
    scene.post(path, b"x", "X-Mine: 1\r\n")
    job = scene.model.jobs[0]
    assert len(job.request_id) == 36
    assert unpack_pairs(job.fields) == [
        (b"Host", b"h"),
        (b"X-Mine", b"1"),
        (b"Content-Length", b"1"),
        (b"explain", explain),
        (b"url_path", url_path),
    ]


def test_a_request_without_a_body_has_a_length_of_0() -> None:
    scene = Scene()
    scene.client.send(b"GET /predictions/m HTTP/1.1\r\nHost: h\r\n\r\n")
    assert (b"content-length", b"0") in unpack_pairs(scene.model.jobs[0].fields)


@pytest.mark.parametrize("query", ["a=b%00explain%00True", "a%00b=c", "a=b%00c"])
def test_no_parameter_can_forge_a_header_or_break_the_head_block(query: str) -> None:
    scene = Scene()
    scene.post(f"/m/predict?{query}", b"x")
    assert scene.answer.startswith(b"HTTP/1.1 400 Bad Request\r\n")
    assert scene.model.jobs == []


def test_what_the_handler_set_is_sent_and_cannot_split_the_answer() -> None:
    scene = Scene()
    scene.post("/predictions/m", b"x")
    head = b"Te\r\napot\0X-A\x001\r\nEvil: 2\0content-length\x0099\0Connection\0upgrade"
    scene.model.finish(b"body", head, 418)
    lines = scene.answer.split(b"\r\n")
    assert lines[0] == b"HTTP/1.1 418 Te  apot"
    assert b"X-A: 1  Evil: 2" in lines
    assert b"content-length: 4" in lines
    assert b"connection: close" in lines
    assert not any(
        line.startswith((b"Evil", b"Connection", b"content-length: 99")) for line in lines
    )


@pytest.mark.parametrize("error", [NoWorkers("x"), QueueFull("x")])
def test_nobody_to_serve_has_torchserves_words(error: TsdError) -> None:
    scene = Scene()
    scene.model.trouble = error
    scene.post("/predictions/m", b"x")
    assert b"HTTP/1.1 503 Service Unavailable\r\n" in scene.answer
    assert b'Model \\"m\\" has no worker to serve inference request.' in scene.answer
    again = Scene()
    again.model.queue_trouble = error
    again.post("/predictions/m/1.0", b"x" * 1000)
    assert b'Model \\"m\\" Version 1.0\\" has no worker' in again.answer
    assert again.model.slots.used_bytes == 0
    assert again.model.figures.errors == {error.code: 1}


def test_errors_of_the_worker_become_answers() -> None:
    for error, status in (
        (HandlerRaised("Prediction failed"), 503),
        (PredictionRefused("no", 422), 422),
    ):
        scene = Scene()
        scene.post("/predictions/m", b"x")
        scene.model.jobs[0].failed(error)
        assert scene.answer.startswith(b"HTTP/1.1 %d " % status)


def test_a_request_waits_for_room_and_is_refused_when_none_comes() -> None:
    scene = Scene()
    scene.model.has_room = False
    scene.post("/predictions/m", b"z" * 5_000)
    assert scene.model.jobs == []
    size, then = scene.model.waiting[0]
    then(scene.model.slots.take(size))
    scene.client.turn()
    assert bytes(scene.model.jobs[0].body) == b"z" * 5_000
    late = Scene()
    late.model.has_room = False
    late.post("/predictions/m", b"z" * 5_000)
    late.model.waiting[0][1](None)
    assert late.answer.startswith(b"HTTP/1.1 503 ")


def test_a_client_that_goes_gives_its_slot_and_its_job_back() -> None:
    waiting = Scene()
    waiting.model.has_room = False
    waiting.post("/predictions/m", b"z" * 5_000)
    waiting.client.go()
    size, then = waiting.model.waiting[0]
    then(waiting.model.slots.take(size))
    assert waiting.model.slots.used_bytes == 0
    sending = Scene()
    sending.client.send(b"POST /predictions/m HTTP/1.1\r\nHost: h\r\nContent-Length: 9000\r\n\r\nz")
    assert sending.model.slots.used_bytes > 0
    sending.client.go()
    assert sending.model.slots.used_bytes == 0
    queued = Scene()
    queued.post("/predictions/m", b"x")
    queued.client.go()
    assert queued.model.cancelled == queued.model.jobs


def test_answered_requests_leave_no_rings_for_the_collector() -> None:
    scene = Scene()
    gc.collect()
    gc.disable()
    try:
        for size in (10, 5_000, 300_000):
            scene.post("/predictions/m", b"x" * size)
            scene.model.finish()
            scene.client.turn()
        scene.client.requests.clear()
        assert gc.collect() == 0
    finally:
        gc.enable()


def test_a_path_without_a_model_is_unknown() -> None:
    for path in ("/predictions", "/predictions/"):
        scene = Scene()
        scene.post(path, b"x")
        assert scene.answer.startswith(b"HTTP/1.1 404 Not Found\r\n")


def part(scene: Scene, body: bytes, head: bytes = b"") -> None:
    scene.model.jobs[0].part_came(AnswerPart(200, head, body))


def test_pieces_become_chunks_and_the_last_one_ends_them() -> None:
    scene = Scene()
    scene.post("/predictions/m", b"x")
    part(scene, b"one", b"Fine\0X-Mine\0v")
    part(scene, b"two", b"Ignored\0X-Mine\0w")
    scene.model.finish(b"last")
    answer = scene.answer
    assert answer.startswith(b"HTTP/1.1 200 Fine\r\n")
    assert b"X-Mine: v\r\nts_stream_next: true\r\n" in answer
    assert answer.endswith(b"\r\n\r\n3\r\none\r\n3\r\ntwo\r\n4\r\nlast\r\n0\r\n\r\n")


def test_a_handler_that_names_the_next_piece_itself_is_not_contradicted() -> None:
    scene = Scene()
    scene.post("/predictions/m", b"x")
    part(scene, b"one", b"\0ts_stream_next\0true")
    scene.model.finish(b"")
    assert scene.answer.count(b"ts_stream_next") == 1


def test_an_error_after_the_first_piece_cuts_the_connection() -> None:
    scene = Scene()
    scene.post("/predictions/m", b"x")
    part(scene, b"one")
    scene.model.jobs[0].failed(HandlerRaised("Prediction failed"))
    assert scene.answer.endswith(b"3\r\none\r\n")
    assert scene.client.wire.is_aborted
    assert scene.model.figures.errors == {"handler_raised": 1}


def test_pieces_for_a_client_that_has_gone_are_dropped() -> None:
    scene = Scene()
    scene.post("/predictions/m", b"x")
    job = scene.model.jobs[0]
    scene.client.go()
    part(scene, b"one")
    job.answered(b"last")
    assert scene.model.cancelled == [job]


def test_the_job_of_a_client_that_does_not_read_its_stream_is_cancelled() -> None:
    scene = Scene()
    scene.client.wire.is_stuck = True
    scene.post("/predictions/m", b"x")
    job = scene.model.jobs[0]
    part(scene, b"x" * 60_000)
    assert scene.model.cancelled == []
    part(scene, b"x" * 60_000)
    part(scene, b"dropped")
    assert scene.model.cancelled == [job]


def test_a_head_that_is_known_asks_for_the_same_again_with_an_id_of_its_own() -> None:
    scene = Scene()
    jobs: list[Job] = []
    for number in range(4):
        scene.post("/predictions/m/1.0/a", b"%d" % number, "X-Mine: 1\r\n")
        jobs += scene.model.jobs
        scene.model.finish(b"answer")
        scene.client.turn()
    assert [bytes(job.body) for job in jobs] == [b"0", b"1", b"2", b"3"]
    assert len({job.request_id for job in jobs}) == 4
    assert len({job.id for job in jobs}) == 4
    assert {job.fields for job in jobs} == {jobs[0].fields}
    assert jobs[-1].fields is jobs[-2].fields
    assert scene.found == 1


def test_a_known_head_is_looked_into_again_when_its_model_has_gone() -> None:
    scene = Scene()
    for _ in range(3):
        scene.post("/predictions/m", b"x")
        scene.model.finish()
    before = scene.found
    scene.named.model = None
    scene.named = Named(cast(Model, scene.model))
    scene.post("/predictions/m", b"x")
    assert scene.found == before + 1
    assert len(scene.model.jobs) == 1


def test_a_token_is_asked_for_even_where_the_head_is_known() -> None:
    scene = Scene()
    for _ in range(3):
        scene.post("/predictions/m", b"x")
        scene.model.finish()
    scene.is_refused = True
    scene.post("/predictions/m", b"x")
    assert scene.answer.count(b"HTTP/1.1 400 Bad Request\r\n") == 1
    assert scene.model.jobs == []
