"""One process and its channel: forked, watched by its pidfd, told and listened to, ended.

End of file on the channel stops what it is told; only the pidfd says that the process is gone.
What its notices mean is said in worker_handle.py."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
from collections import deque
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from tsd import process
from tsd.errors import ProtocolError
from tsd.ipc.arguments import WorkerArguments
from tsd.ipc.channel import channel_pair, receive_notice, send_notice
from tsd.ipc.layout import Header, NoticeKind, pack_text, unpack_header
from tsd.ipc.lines import Line
from tsd.serving.fork_server import ForkServer
from tsd.serving.worker_output import OutputPipe, WorkerOutput
from tsd.settings import LogSettings

KILL_AFTER_S = 5.0
# What comes from there has that level, unless it says another.
SOURCES = {"stdout": "info", "stderr": "warning"}
PRINTED_METRIC = ("[METRICS]", "INFO > [METRICS]")

OnNotice = Callable[[Header, bytes], None]
OnExit = Callable[[str], None]


class WorkerProcess:
    """Nothing until `fork`. After it `on_notice` gets what the process says, and raises
    ProtocolError for what it does not believe; `on_exit` is called once, when the kernel says
    that the process is gone."""

    def __init__(
        self, log: Any, log_settings: LogSettings, on_notice: OnNotice, on_exit: OnExit
    ) -> None:
        self.pid = 0
        self.exit_status = process.ExitStatus()
        self._log = log
        self._log_settings = log_settings
        self._on_notice = on_notice
        self._on_exit = on_exit
        self._channel: socket.socket | None = None
        self._gone: Callable[[], None] = lambda: None
        # Where jobs overlap, each comes in a notice of its own, perhaps while the worker does not
        # read: no more than it may have jobs, and cancellations of them.
        self._unsent: deque[bytes] = deque()
        self._pidfd = -1
        self._pipes: list[OutputPipe] = []
        self._kill_timer: asyncio.TimerHandle | None = None
        self._is_hung = False
        self._loop = asyncio.get_running_loop()

    @property
    def pids(self) -> tuple[int, ...]:
        """Its process id; none until it is forked."""
        return (self.pid,) if self.pid else ()

    async def fork(
        self,
        fork_server: ForkServer,
        arguments: WorkerArguments,
        segments: tuple[int, int],
    ) -> None:
        """Have it forked, and listen to it. `segments`: request arena, answers.

        Raises StartFailed or OSError, and then nothing is left."""
        with contextlib.ExitStack() as lent, contextlib.ExitStack() as kept:
            ours, theirs = channel_pair()
            kept.callback(ours.close)
            lent.callback(theirs.close)
            pipes = []
            for _ in SOURCES:
                pipes.append(os.pipe2(os.O_CLOEXEC))
                kept.callback(os.close, pipes[-1][0])
                lent.callback(os.close, pipes[-1][1])
            descriptors = [theirs.fileno(), *segments, *[write_end for _, write_end in pipes]]
            asked = replace(arguments, request_id=fork_server.next_request_id())
            self.pid = await fork_server.fork(asked, descriptors)
            self._pidfd = process.open_pidfd(self.pid)
            self._gone = fork_server.forget
            self._watch([read_end for read_end, _ in pipes])
            kept.pop_all()
        self._channel = ours
        self._loop.add_reader(ours.fileno(), self._on_readable)

    def send(self, notice: bytes) -> None:
        """Tell it, now or as soon as it reads on.

        OSError where it does not listen any more, ProtocolError for too long."""
        if self._channel is None:
            raise BrokenPipeError("the channel is closed")
        if not self._unsent:
            try:
                send_notice(self._channel, notice)
                return
            except BlockingIOError:
                self._loop.add_writer(self._channel.fileno(), self._on_writable, self._channel)
        self._unsent.append(notice)

    def kill(self, reason: str, *, cause: str | None = None) -> None:
        """End it now; its exit is seen by the pidfd."""
        if self._pidfd >= 0:
            self._log.warning("killing the worker: %s", reason, cause=cause, code="worker_killed")
            process.send_signal(self._pidfd, signal.SIGKILL)

    def kill_after(self, delay_s: float, reason: str) -> None:
        """End it then, if it is still there; of several such instants the earliest counts."""
        at = self._loop.time() + delay_s
        if self._kill_timer is None or at < self._kill_timer.when():
            self._cancel_timer()
            self._kill_timer = self._loop.call_at(at, self.kill, reason)

    def end_hung(self, request_ids: str) -> None:
        """SIGTERM, and SIGKILL when that does not help. `request_ids`: what it hangs at."""
        if not self._is_hung and self._pidfd >= 0:
            self._is_hung = True
            text = "the worker overran its response timeout and is ended"
            self._log.error(text, request_id=request_ids, code="worker_hung")
            process.send_signal(self._pidfd, signal.SIGTERM)
            self.kill_after(KILL_AFTER_S, "SIGTERM was ignored")

    def _watch(self, output_ends: list[int]) -> None:
        for source, descriptor in zip(SOURCES, output_ends, strict=True):
            pipe = OutputPipe(descriptor, self._output(source), self._loop)
            pipe.watch()
            self._pipes.append(pipe)
        self._loop.add_reader(self._pidfd, self._on_pidfd)

    def _output(self, source: str) -> WorkerOutput:
        bound = self._log.bind(source=source)
        return WorkerOutput(
            lambda line: self._on_line(bound, SOURCES[source], line),
            lambda n: bound.warning("%d lines left out", n, n=n, code="log_suppressed"),
            self._log_settings.worker_lines_per_s,
            self._log_settings.worker_line_bytes,
        )

    def _on_line(self, bound: Any, level: str, line: Line) -> None:
        """What was printed goes to the log; a metric, in TorchServe's form, is as good as told."""
        if line.text.startswith(PRINTED_METRIC):
            notice = pack_text(NoticeKind.METRICS, line.text)
            self._on_notice(unpack_header(notice), notice)
            return
        text, _, below = line.text.partition("\n")
        about = {"request_id": line.request_ids, "logger": line.logger, "exception": below}
        said = {name: value for name, value in about.items() if value}
        getattr(bound, line.level or level)("%s", text, **said)

    def _on_pidfd(self) -> None:
        status = process.wait_pidfd(self._pidfd)
        if status is None:
            return
        self._cancel_timer()
        self._loop.remove_reader(self._pidfd)
        os.close(self._pidfd)
        self._pidfd = -1
        for pipe in self._pipes:
            pipe.close()
        self._read_last_notices()
        self._close_channel()
        self.exit_status = status
        self._gone()
        self._on_exit(str(status))

    def _on_writable(self, channel: socket.socket) -> None:
        try:
            while self._unsent:
                send_notice(channel, self._unsent[0])
                self._unsent.popleft()
        except BlockingIOError:
            return
        except OSError as error:
            # Its pidfd tells the rest.
            self._unsent.clear()
            self._log.debug("the worker does not listen any more: %s", error)
        self._loop.remove_writer(channel.fileno())

    def _on_readable(self) -> None:
        try:
            if not self._read_notice() and self._channel is not None:
                self._loop.remove_reader(self._channel.fileno())
        except BlockingIOError:
            return
        except (OSError, ProtocolError) as error:
            if self._channel is not None:
                self._loop.remove_reader(self._channel.fileno())
            self.kill(f"its notice is not believed: {error}", cause="protocol")

    def _read_notice(self) -> bool:
        """Take one notice; False at end of file."""
        if self._channel is None:
            return False
        notice = receive_notice(self._channel)
        if notice:
            self._on_notice(unpack_header(notice), notice)
        return bool(notice)

    def _read_last_notices(self) -> None:
        """What it said before it died still counts."""
        try:
            while self._read_notice():
                pass
        except (OSError, ProtocolError) as error:
            if not isinstance(error, BlockingIOError):
                self._log.warning("its last notice is not believed: %s", error)

    def _close_channel(self) -> None:
        if self._channel is not None:
            self._loop.remove_reader(self._channel.fileno())
            self._loop.remove_writer(self._channel.fileno())
            self._channel.close()
            self._channel = None

    def _cancel_timer(self) -> None:
        if self._kill_timer is not None:
            self._kill_timer.cancel()
