"""A load on a Unix socket: so many clients, each of which asks again as soon as it is answered.

One thread waits for all of them. What it costs is measured, too: where it is busy all the time, it
and not the model is what the figures tell of."""

from __future__ import annotations

import resource
import selectors
import socket
import time
from collections import Counter
from contextlib import ExitStack
from dataclasses import dataclass, field

from tsctl.bench.answer import Incoming
from tsctl.failure import Failure, Status

READ_BYTES = 262_144


@dataclass(frozen=True)
class Load:
    """What is sent where, and for how long; after `stall_s` without an answer it is given up."""

    path: str
    request: bytes
    seconds: float
    stall_s: float


@dataclass
class Tally:
    """What came back. Counted are answers after the first wave, which found everything cold."""

    latencies_s: list[float] = field(default_factory=list)
    refused: Counter[int] = field(default_factory=Counter)
    answers: int = 0
    seconds: float = 0.0
    # The share of the time in which this process used a processor.
    own_cpu: float = 0.0


class Caller:
    """One client and its connection."""

    def __init__(self, load: Load) -> None:
        self._load = load
        self._unsent = memoryview(b"")
        self._answer = Incoming()
        self.sent_at = 0.0
        self.socket = socket.socket(socket.AF_UNIX)

    def connect(self) -> None:
        """Anew, where there is a connection already."""
        self.socket.close()
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.connect(self._load.path)
        self.socket.settimeout(0)

    def close(self) -> None:
        self.socket.close()

    @property
    def wants(self) -> int:
        """What it waits for."""
        return selectors.EVENT_WRITE if self._unsent else selectors.EVENT_READ

    def ask(self) -> None:
        self._unsent, self._answer = memoryview(self._load.request), Incoming()
        self.sent_at = time.monotonic()
        self.push()

    def push(self) -> None:
        """Send what the socket takes. Who refuses a large body does not read it to its end."""
        try:
            self._unsent = self._unsent[self.socket.send(self._unsent) :]
        except BlockingIOError:
            return
        except (BrokenPipeError, ConnectionResetError):
            self._unsent = memoryview(b"")

    def receive(self) -> Incoming | None:
        """The answer, if it is whole."""
        data = self.socket.recv(READ_BYTES)
        if not data:
            raise ConnectionError("the daemon closed a connection before it had answered")
        return self._answer if self._answer.feed(data) else None


def closed_loop(load: Load, clients: int) -> Tally:
    """Keep so many requests in flight for so long, and wait for the last ones."""
    try:
        # A shell gives 1,024 descriptors; the search has more clients than that.
        _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
        with ExitStack() as stack:
            callers = [Caller(load) for _ in range(clients)]
            for caller in callers:
                stack.callback(caller.close)
                caller.connect()
            return _Loop(load, stack.enter_context(selectors.DefaultSelector())).run(callers)
    except (OSError, ValueError) as error:
        what, fix = "the measurement broke off", "`tsctl status` and `tsctl logs` tell the cause"
        raise Failure(Status.UNREACHABLE, what, str(error), fix) from None


class _Loop:
    def __init__(self, load: Load, selector: selectors.BaseSelector) -> None:
        self._load = load
        self._selector = selector
        self._tally = Tally()
        self._clients = 0
        self._began_at = self._cpu_before_s = 0.0
        self._is_over = False

    def run(self, callers: list[Caller]) -> Tally:
        self._clients = len(callers)
        for caller in callers:
            self._begin(caller)
        while self._selector.get_map():
            ready = self._selector.select(self._load.stall_s)
            if not ready:
                raise TimeoutError(f"no answer came within {self._load.stall_s:.0f} s")
            for key, _ in ready:
                self._go_on(key.data, key.events)
        return self._tally

    def _begin(self, caller: Caller) -> None:
        caller.ask()
        self._selector.register(caller.socket, caller.wants, caller)

    def _go_on(self, caller: Caller, waited_for: int) -> None:
        if waited_for == selectors.EVENT_WRITE:
            caller.push()
        elif (answer := caller.receive()) is not None:
            self._count(answer, time.monotonic() - caller.sent_at)
            if self._is_over or answer.is_last:
                self._selector.unregister(caller.socket)
                self._renew(caller)
                return
            caller.ask()
        if caller.wants != waited_for:
            self._selector.modify(caller.socket, caller.wants, caller)

    def _renew(self, caller: Caller) -> None:
        """After an error the daemon closes the connection."""
        if not self._is_over:
            caller.connect()
            self._begin(caller)

    def _count(self, answer: Incoming, latency_s: float) -> None:
        now, tally = time.monotonic(), self._tally
        tally.answers += 1
        if tally.answers <= self._clients:
            self._began_at, self._cpu_before_s = now, time.process_time()
        elif not self._is_over:
            tally.seconds = max(now - self._began_at, 1e-6)
            tally.own_cpu = (time.process_time() - self._cpu_before_s) / tally.seconds
            if answer.is_success:
                tally.latencies_s.append(latency_s)
            else:
                tally.refused[answer.status] += 1
            # However long an answer takes, there is a second wave of them.
            self._is_over = tally.seconds >= self._load.seconds and (
                tally.answers >= 2 * self._clients
            )
