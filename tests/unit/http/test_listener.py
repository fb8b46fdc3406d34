"""A listener's connections: admitted, swept, drained. Only the loop is real, not the transports."""

from __future__ import annotations

import asyncio
import gc
import weakref
from collections.abc import Callable, Coroutine

from tests.unit.http.wire import Wire, answer, echo, settings
from tsd.http.connection import Connection
from tsd.http.listener import SWEPT_AT_ONCE, Listener
from tsd.http.message import Request, Response
from tsd.http.refusal import REFUSALS
from tsd.settings import HttpSettings

GET = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"


class Door:
    """A listener and the clients that the test lets in."""

    def __init__(
        self, handler: Callable[[Request], None] = echo, limits: HttpSettings | None = None
    ) -> None:
        self.now = 1000.0
        self.listener = Listener("http", limits or HttpSettings(), handler, lambda: self.now)

    def let_in(self) -> tuple[Wire, Connection]:
        wire, connection = Wire(), self.listener.connect()
        wire.protocol = connection
        connection.connection_made(wire)
        return wire, connection


def turning(test: Callable[[], Coroutine[None, None, None]]) -> Callable[[], None]:
    """Run the test on a loop."""

    def run() -> None:
        asyncio.run(test())

    run.__doc__ = test.__doc__
    return run


@turning
async def test_clients_over_the_limit_are_refused() -> None:
    door = Door(limits=settings(max_connections=1))
    first, _ = door.let_in()
    second, _ = door.let_in()
    assert first.writes == []
    assert second.writes == [REFUSALS[503]]
    assert second.has_written_eof
    third, _ = door.let_in()
    assert third.is_closing()
    assert third.writes == []
    assert door.listener.refusals == {503: 1}
    door.listener.close()


@turning
async def test_a_client_that_has_gone_makes_room() -> None:
    door = Door(limits=settings(max_connections=1))
    _, connection = door.let_in()
    connection.connection_lost(None)
    assert door.listener.connections == set()
    wire, _ = door.let_in()
    assert wire.writes == []
    door.listener.close()


@turning
async def test_new_limits_bind_new_connections() -> None:
    door = Door()
    old, old_connection = door.let_in()
    door.listener.limits = settings(max_target_bytes=5)
    assert door.listener.limits.max_target_bytes == 5
    new, new_connection = door.let_in()
    for connection in (old_connection, new_connection):
        connection.data_received(b"GET /12345 HTTP/1.1\r\nHost: a\r\n\r\n")
    assert old.writes == [answer(b"GET /12345 |")]
    assert new.writes == [REFUSALS[414]]
    door.listener.close()


@turning
async def test_a_sweep_reaches_every_connection() -> None:
    door = Door()
    wires = [door.let_in()[0] for _ in range(3)]
    door.now += 11
    door.listener.sweep()
    assert all(wire.is_closing() for wire in wires)
    door.listener.close()


@turning
async def test_a_sweep_of_many_lets_the_loop_turn() -> None:
    door = Door()
    let_in = [door.let_in() for _ in range(2 * SWEPT_AT_ONCE + 1)]
    door.now += 11
    door.listener.sweep()
    wire, connection = next(pair for pair in let_in if not pair[0].is_closing())
    connection.connection_lost(None)
    counts = []
    for _ in range(3):
        counts.append(sum(wire.is_closing() for wire, _ in let_in))
        await asyncio.sleep(0)
    assert counts[0] == SWEPT_AT_ONCE < counts[1] <= counts[2] == 2 * SWEPT_AT_ONCE
    assert not wire.is_closing()
    door.listener.close()


@turning
async def test_a_client_that_rests_is_looked_at_again_when_something_comes() -> None:
    door = Door(limits=settings(header_timeout_s=10, keep_alive_s=75))
    wire, connection = door.let_in()
    connection.data_received(GET)
    for _ in range(60):
        door.now += 1
        door.listener.sweep()
    connection.data_received(GET[:9])
    for _ in range(12):
        door.now += 1
        door.listener.sweep()
    assert wire.writes == [answer(b"GET / |"), REFUSALS[408]]
    door.listener.close()


@turning
async def test_a_client_that_rests_is_sent_away_in_time() -> None:
    door = Door(limits=settings(header_timeout_s=10, keep_alive_s=75))
    fresh, _ = door.let_in()
    kept, connection = door.let_in()
    connection.data_received(GET)
    gone_at: dict[str, int] = {}
    for second in range(80):
        door.listener.sweep()
        for name, wire in (("fresh", fresh), ("kept", kept)):
            if wire.is_closing():
                gone_at.setdefault(name, second)
        door.now += 1
    assert gone_at == {"fresh": 11, "kept": 76}
    door.listener.close()


@turning
async def test_nothing_is_left_of_a_client_that_has_gone() -> None:
    door = Door()
    wire, connection = door.let_in()
    connection.data_received(GET)
    connection.connection_lost(None)
    gc.disable()
    try:
        left = weakref.ref(wire)
        del wire.protocol
        del wire, connection
        assert left() is None
    finally:
        gc.enable()
    door.listener.close()


@turning
async def test_answers_that_become_ready_together_leave_together() -> None:
    requests: list[Request] = []
    door = Door(requests.append)
    wire, connection = door.let_in()
    connection.data_received(GET + GET)
    for request in requests:
        request.respond(Response(200))
    assert wire.writes == []
    await asyncio.sleep(0)
    assert wire.writes == [answer(b"") * 2]
    door.listener.close()


@turning
async def test_draining_closes_the_idle_and_waits_for_the_busy() -> None:
    requests: list[Request] = []
    door = Door(requests.append)
    idle, idle_connection = door.let_in()
    busy, busy_connection = door.let_in()
    idle_connection.data_received(GET)
    requests.pop().respond(Response(200))
    busy_connection.data_received(GET)
    door.now += 1
    door.listener.sweep()
    draining = asyncio.ensure_future(door.listener.drain(60))
    await asyncio.sleep(0)
    door.listener.end_idle()
    assert idle.is_closing()
    assert not busy.is_closing()
    idle_connection.connection_lost(None)
    requests[0].respond(Response(200))
    assert busy.writes == [answer(b"", is_last=True)]
    busy_connection.connection_lost(None)
    assert await draining == 0


@turning
async def test_draining_waits_a_moment_for_who_has_just_come() -> None:
    door = Door()
    wire, connection = door.let_in()
    silent, silent_connection = door.let_in()
    kept, kept_connection = door.let_in()
    kept_connection.data_received(GET)
    draining = asyncio.ensure_future(door.listener.drain(60))
    await asyncio.sleep(0)
    connection.data_received(GET)
    kept_connection.data_received(GET)
    assert wire.writes == [answer(b"GET / |", is_last=True)]
    assert kept.writes == [answer(b"GET / |"), answer(b"GET / |", is_last=True)]
    connection.connection_lost(None)
    kept_connection.connection_lost(None)
    door.listener.end_idle()
    assert silent.is_closing()
    silent_connection.connection_lost(None)
    assert await draining == 0


@turning
async def test_who_comes_while_draining_is_sent_away() -> None:
    door = Door(lambda request: None)
    _, busy_connection = door.let_in()
    busy_connection.data_received(GET)
    draining = asyncio.ensure_future(door.listener.drain(60))
    await asyncio.sleep(0)
    # Over TLS a handshake may end after the last client was accepted.
    late, late_connection = door.let_in()
    door.listener.end_idle()
    assert late.is_closing()
    late_connection.connection_lost(None)
    busy_connection.connection_lost(None)
    assert await draining == 0


@turning
async def test_draining_cuts_what_does_not_end() -> None:
    door = Door(lambda request: None)
    wire, connection = door.let_in()
    connection.data_received(GET)
    assert await door.listener.drain(0) == 1
    assert wire.is_closing()
    connection.connection_lost(None)
    assert await door.listener.drain(0) == 0
