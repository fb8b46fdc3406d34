"""Large bodies: the transport reads straight into the room, and not one byte beyond it."""

from __future__ import annotations

from tests.unit.http.wire import Client, answer, told
from tsd.http.body import DIRECT_BYTES, READ_BYTES
from tsd.http.message import Request, Response
from tsd.http.refusal import REFUSALS

SIZE = 2 * DIRECT_BYTES + 10
BODY = bytes(range(256)) * (SIZE // 256) + bytes(10)
HEAD = b"POST /a HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n" % SIZE
NEXT = b"GET /b HTTP/1.1\r\nHost: a\r\n\r\n"


class Rooms:
    """An application that gives each body a room and answers with its sum."""

    def __init__(self) -> None:
        self.lost = 0
        self.rooms: list[bytearray] = []

    def __call__(self, request: Request) -> None:
        request.on_disconnect = self._count
        self.rooms.append(bytearray(request.content_length or 0))
        room = memoryview(self.rooms[-1]) if request.content_length else None
        request.receive(lambda whole: whole.respond(Response(200, b"%d" % len(whole.body))), room)

    def _count(self) -> None:
        self.lost += 1


def test_the_rest_of_a_large_body_is_read_straight_into_its_room() -> None:
    for first in (0, 5, DIRECT_BYTES + 10):
        rooms = Rooms()
        client = Client(rooms)
        client.send(HEAD + BODY + NEXT, [len(HEAD) + first])
        assert rooms.rooms[0] == BODY
        assert client.got == answer(b"%d" % SIZE) + answer(b"0")
        assert client.wire.switches == ["Inlet", "Connection"]


def test_one_large_body_after_the_other_changes_the_reader_once() -> None:
    for first in (0, 5, 10_000):
        rooms = Rooms()
        client = Client(rooms)
        client.send((HEAD + BODY) * 3 + NEXT + NEXT, [len(HEAD) + first])
        assert [bytes(room) for room in rooms.rooms] == [BODY] * 3 + [b""] * 2
        assert client.got == answer(b"%d" % SIZE) * 3 + answer(b"0") * 2
        assert client.wire.switches == ["Inlet", "Connection"]


def test_a_head_behind_a_large_body_may_come_in_pieces() -> None:
    rooms = Rooms()
    client = Client(rooms)
    client.send(HEAD + BODY, [len(HEAD)])
    for piece in (HEAD[:20], HEAD[20:], BODY[:5], BODY[5:]):
        client.send(piece)
    assert rooms.rooms == [BODY, BODY]
    assert client.wire.switches == ["Inlet", "Connection", "Inlet"]


def test_the_next_large_body_may_wait_for_its_room() -> None:
    waiting: list[Request] = []

    def rooms_come_late(request: Request) -> None:
        waiting.append(request)

    client = Client(rooms_come_late)
    for number in range(2):
        client.send(HEAD)
        assert not client.wire.is_reading()
        room = memoryview(bytearray(SIZE))
        waiting[number].receive(lambda whole: whole.respond(Response(200, b"ok")), room)
        client.send(BODY)
        assert room == BODY
    assert client.got == answer(b"ok") * 2
    assert client.wire.switches == ["Inlet"]


def test_a_rest_below_the_threshold_is_copied() -> None:
    rooms = Rooms()
    client = Client(rooms)
    client.send(HEAD + BODY, [len(HEAD) + DIRECT_BYTES + 11])
    assert rooms.rooms[0] == BODY
    assert client.wire.switches == []


def test_a_read_is_never_larger_than_what_pays() -> None:
    client = Client(Rooms())
    client.send(HEAD)
    reader = client.wire.protocol
    assert len(reader.get_buffer(-1)) == READ_BYTES  # type: ignore[attr-defined]


def test_a_client_that_goes_in_the_middle_takes_its_request_with_it() -> None:
    for leave in (Client.end, Client.go):
        rooms = Rooms()
        client = Client(rooms)
        client.send(HEAD + BODY[:1000])
        client.send(BODY[1000:5000])
        leave(client)
        assert rooms.lost == 1
        assert client.requests[0].is_gone
        assert client.wire.is_closing()
        assert client.got == b""


def test_an_answer_in_the_middle_ends_the_reading_into_the_room() -> None:
    rooms = Rooms()
    client = Client(rooms)
    client.send(HEAD + BODY[:1000])
    client.send(BODY[1000:5000])
    client.requests[0].respond(Response(504))
    client.send(BODY[5000:])
    assert client.got == answer(b"", is_last=True, status=504)
    assert client.wire.switches == ["Inlet", "Connection"]
    assert rooms.rooms[0][5000:] == bytes(SIZE - 5000)
    assert client.wire.has_written_eof


def test_a_body_too_slow_for_its_room_is_refused() -> None:
    client = Client(Rooms())
    client.send(HEAD + BODY[:10])
    client.wait(12)
    assert client.got == REFUSALS[408]
    assert client.is_ended


def test_answers_go_on_while_a_body_is_read_directly() -> None:
    waiting: list[Request] = []

    def first_waits(request: Request) -> None:
        if request.path == "/b":
            waiting.append(request)
        else:
            Rooms()(request)

    client = Client(first_waits)
    client.send(NEXT + HEAD + BODY[:1000])
    client.wire.is_stuck = True
    waiting[0].respond(Response(200, bytes(100_000)))
    client.turn()
    assert client.wire.is_writing_paused
    client.wire.is_stuck = False
    client.wire.take()
    client.send(BODY[1000:])
    assert client.got == answer(bytes(100_000)) + answer(b"%d" % SIZE)


def test_a_body_that_comes_late_to_its_room_was_held_back_meanwhile() -> None:
    client = Client(lambda _request: None)
    client.send(HEAD + BODY[:1000])
    assert not client.wire.is_reading()
    client.wire.inbox.append(BODY[1000:] + NEXT)
    room = memoryview(bytearray(SIZE))
    client.requests[0].receive(lambda whole: whole.respond(Response(200, b"ok")), room)
    client.turn()
    assert room == BODY
    client.requests[1].respond(Response(200, told(client.requests[1])))
    assert client.got == answer(b"ok") + answer(b"GET /b |")


def test_nothing_is_read_into_a_room_that_was_given_back() -> None:
    rooms = Rooms()
    waiting: list[Request] = []

    def first_waits(request: Request) -> None:
        if request.path == "/b":
            waiting.append(request)
        else:
            rooms(request)

    client = Client(first_waits)
    client.send(NEXT + HEAD + BODY[:5])
    # The answer to the first request ends the connection while the second one's body is read.
    waiting[0].respond(Response(500, is_last=True))
    client.turn()
    assert rooms.lost == 1
    client.send(BODY[5:])
    assert rooms.rooms[0] == BODY[:5].ljust(SIZE, b"\0")
    assert client.got == answer(b"", status=500, is_last=True)
    client.end()
    assert client.wire.is_closing()
