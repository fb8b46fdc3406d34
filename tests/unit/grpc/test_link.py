"""A link between a client and the library's server: what goes on, and how it ends."""

from __future__ import annotations

from tests.unit.grpc.test_frames import frame
from tests.unit.http.test_listener import turning
from tests.unit.http.wire import Wire
from tsd.grpc.frames import (
    ALL_STREAMS,
    DATA,
    END_HEADERS,
    END_STREAM,
    GOAWAY,
    HEADERS,
    PREFACE_BYTES,
    RST_STREAM,
    goaway,
    window_update,
)
from tsd.grpc.link import MANY_FRAMES, Link

PREFACE = b"P" * PREFACE_BYTES
SETTINGS = frame(4, 0)


def asked(stream: int) -> bytes:
    return frame(HEADERS, stream, b"h", END_HEADERS) + frame(DATA, stream, b"body", END_STREAM)


def answered(stream: int) -> bytes:
    trailers = frame(HEADERS, stream, b"t", END_HEADERS | END_STREAM)
    return frame(HEADERS, stream, b"h", END_HEADERS) + frame(DATA, stream, b"body") + trailers


class Linked:
    """A link whose ends are the test's."""

    def __init__(self, *, is_greeted: bool = True) -> None:
        self.calls = 0
        self.ended: list[Link] = []
        self.link = Link(self._count, self.ended.append)
        self.client, self.server = Wire(), Wire()
        self.link.server.connection_made(self.server)
        if is_greeted:
            self.link.server.data_received(SETTINGS)
        self.link.client.connection_made(self.client)
        self.link.client.data_received(PREFACE)

    def _count(self) -> None:
        self.calls += 1

    def ask(self, *streams: int) -> None:
        for stream in streams:
            self.link.client.data_received(asked(stream))

    def answer(self, *streams: int) -> None:
        for stream in streams:
            self.link.server.data_received(answered(stream))

    def is_ended(self) -> bool:
        """Whether the client has been told the end."""
        return self.client.has_written_eof

    @property
    def to_server(self) -> bytes:
        return b"".join(self.server.writes)

    @property
    def to_client(self) -> bytes:
        return b"".join(self.client.writes)


@turning
async def test_calls_and_answers_go_on_as_they_are() -> None:
    linked = Linked()
    linked.ask(1, 3)
    assert linked.link.streams == {1, 3}
    linked.answer(3)
    linked.link.client.data_received(frame(RST_STREAM, 1, bytes(4)))
    assert linked.to_server == PREFACE + asked(1) + asked(3) + frame(RST_STREAM, 1, bytes(4))
    assert linked.to_client == SETTINGS + answered(3)
    assert linked.link.streams == set()
    assert linked.calls == 2


@turning
async def test_a_side_that_takes_nothing_stops_the_other() -> None:
    linked = Linked()
    linked.link.server.pause_writing()
    assert not linked.client.reads
    assert linked.server.reads
    linked.link.server.resume_writing()
    assert linked.client.reads


@turning
async def test_a_client_that_is_sent_away_is_still_served() -> None:
    linked = Linked()
    linked.ask(1)
    linked.link.say_goaway()
    linked.ask(3)
    assert linked.to_server == PREFACE + asked(1) + asked(3)
    assert linked.to_client == SETTINGS + goaway(ALL_STREAMS)
    assert not linked.client.is_closing()


@turning
async def test_later_calls_are_not_begun_and_the_client_knows_which() -> None:
    linked = Linked()
    linked.ask(1, 3)
    linked.link.refuse_new_calls()
    linked.ask(5)
    assert linked.to_server == PREFACE + asked(1) + asked(3)
    linked.answer(1)
    assert not linked.is_ended()
    linked.answer(3)
    said = goaway(3) + window_update(4) + answered(1) + answered(3)
    assert linked.to_client == SETTINGS + said
    assert linked.is_ended()
    assert linked.calls == 2


@turning
async def test_a_farewell_waits_for_the_end_of_the_frame() -> None:
    linked = Linked()
    linked.ask(1)
    linked.link.server.data_received(answered(1)[:9])
    linked.link.refuse_new_calls()
    assert linked.to_client == SETTINGS + answered(1)[:9]
    linked.link.server.data_received(answered(1)[9:])
    assert linked.to_client == SETTINGS + answered(1) + goaway(1)
    assert linked.is_ended()


@turning
async def test_a_farewell_waits_for_the_servers_greeting() -> None:
    linked = Linked(is_greeted=False)
    linked.link.say_goaway()
    linked.link.refuse_new_calls()
    assert linked.to_client == b""
    linked.link.server.data_received(SETTINGS)
    assert linked.to_client == SETTINGS + goaway(0)
    assert linked.is_ended()


@turning
async def test_the_servers_farewell_is_enough() -> None:
    linked = Linked()
    said = frame(GOAWAY, 0, bytes(8))
    linked.link.server.data_received(said)
    linked.link.say_goaway()
    assert linked.to_client == SETTINGS + said


@turning
async def test_the_server_does_not_contradict_a_farewell() -> None:
    linked = Linked()
    linked.ask(1)
    linked.link.refuse_new_calls()
    linked.link.server.data_received(frame(GOAWAY, 0, bytes(8)))
    assert linked.to_client == SETTINGS + goaway(1)


@turning
async def test_with_one_end_the_other_is_over() -> None:
    gone_client, gone_server = Linked(), Linked()
    gone_client.link.client.connection_lost(None)
    assert gone_client.server.is_aborted
    gone_client.link.server.connection_lost(None)
    assert gone_client.ended == [gone_client.link]
    gone_server.link.server.connection_lost(None)
    assert gone_server.client.has_written_eof
    assert gone_server.ended == []
    gone_server.link.client.connection_lost(None)
    assert gone_server.ended == [gone_server.link]


@turning
async def test_what_comes_for_a_server_that_has_gone_is_dropped() -> None:
    linked = Linked()
    linked.server.close()
    linked.ask(1)
    assert linked.to_server == PREFACE


@turning
async def test_what_was_dropped_is_made_good_as_soon_as_it_can_be() -> None:
    linked = Linked()
    linked.ask(1)
    linked.link.refuse_new_calls()
    piece = frame(DATA, 1, b"body")
    linked.link.server.data_received(piece[:-1])
    linked.ask(3)
    said = goaway(1) + piece[:-1]
    assert linked.to_client == SETTINGS + said
    # The client may have nothing left of its window: it says nothing more.
    linked.link.server.data_received(piece[-1:])
    assert linked.to_client == SETTINGS + said + piece[-1:] + window_update(4)


@turning
async def test_at_the_end_a_client_may_take_its_answers_as_slowly_as_it_does() -> None:
    linked = Linked()
    linked.ask(1)
    linked.link.refuse_new_calls()
    linked.client.is_stuck = True
    linked.answer(1)
    assert linked.is_ended()
    unsent = linked.client.unsent
    linked.client.take(1)
    linked.link.client.look_after_end(unsent)
    assert not linked.client.is_aborted
    linked.link.client.look_after_end(linked.client.unsent)
    assert linked.client.is_aborted


@turning
async def test_f63_a_client_of_many_frames_rests_and_waits_for_the_server_besides() -> None:
    linked = Linked()
    linked.link.client.data_received(frame(200, 0) * MANY_FRAMES)
    assert linked.client.is_reading()
    linked.link.client.data_received(frame(200, 0) * (MANY_FRAMES + 1))
    assert not linked.client.is_reading()
    linked.link.server.pause_writing()
    linked.link.client.go_on()
    assert not linked.client.is_reading()
    linked.link.server.resume_writing()
    assert linked.client.is_reading()
