"""The fork server of one runtime: start it, ask it for a worker, start it again when it dies.

Its program is tsd.worker.zygote, run by the runtime's interpreter; live workers do not need it."""

from __future__ import annotations

import asyncio
import contextlib
import enum
import json
import os
import signal
import socket
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from tsd import process
from tsd.cgroups import Cgroups
from tsd.errors import ProtocolError, StartFailed
from tsd.ipc.arguments import WorkerArguments, pack_arguments, unpack_reply
from tsd.log import get_logger
from tsd.runtimes.command import worker_side
from tsd.serving.worker_output import OutputPipe, WorkerOutput

PROGRAM = "tsd.worker.zygote"
MAX_REPLY_BYTES = 65_536
MAX_RESTART_DELAY_S = 30.0
FORK_S = 10.0

# Room in the argument area for the title of any worker: names have at most 128 characters.
TITLE_ROOM = " " * 384

log = get_logger()


class ForkServerState(enum.Enum):
    """`starting` until torch is imported; `exited` between a death and the next start."""

    STARTING = "starting"
    READY = "ready"
    EXITED = "exited"


class ForkServer:
    """Asks are answered in order; those that come while it starts wait for it."""

    def __init__(
        self,
        runtime: str,
        python: Path,
        environment: Mapping[str, str],
        output: WorkerOutput,
        cgroups: Cgroups,
    ) -> None:
        self.runtime = runtime
        self.python = python
        self.state = ForkServerState.EXITED
        self.pid = 0
        self.versions: dict[str, str] = {}
        self.last_error = ""
        self._environment = dict(environment) | {"OPENBLAS_NUM_THREADS": "1"}
        self._output = output
        self._cgroups = cgroups
        self._channel: socket.socket | None = None
        self._process: subprocess.Popen[bytes] | None = None
        self._pidfd = -1
        self._pipe: OutputPipe | None = None
        self._asked: dict[int, asyncio.Future[int]] = {}
        self._next_id = 0
        self._restarts = 0
        self._is_wanted = False
        self._changed = asyncio.Event()
        self._turn = asyncio.Lock()

    @property
    def is_running(self) -> bool:
        """Whether there is a process."""
        return self.state is not ForkServerState.EXITED

    @property
    def is_ready(self) -> bool:
        """Whether workers can be forked."""
        return self.state is ForkServerState.READY

    def begin(self) -> None:
        """Start the process, now or, where that fails, later; it says when it is ready."""
        self._is_wanted = True
        self._restart(asyncio.get_running_loop())

    def _start(self) -> None:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        read_end, write_end = os.pipe2(os.O_CLOEXEC)
        ours.settimeout(0)
        command = worker_side(self.python, PROGRAM, theirs.fileno())
        try:
            self._process = subprocess.Popen(
                [*command, TITLE_ROOM],
                stdin=subprocess.DEVNULL,
                stdout=write_end,
                stderr=write_end,
                env=self._environment,
                pass_fds=(theirs.fileno(),),
                start_new_session=True,
            )
        except OSError as error:
            os.close(read_end)
            ours.close()
            raise StartFailed(
                "The runtime's interpreter cannot be started.",
                why=str(error),
                fix="`tsctl runtime list` shows the runtimes, `tsctl runtime add` adds another one",
            ) from error
        finally:
            theirs.close()
            os.close(write_end)
        self.pid = self._process.pid
        self.state = ForkServerState.STARTING
        self._watch(ours, read_end)

    async def wait_until_ready(self, timeout_s: float) -> None:
        """Return when the runtime is loaded; StartFailed when that takes too long."""
        try:
            async with asyncio.timeout(timeout_s):
                while self.state is not ForkServerState.READY:
                    self._changed.clear()
                    await self._changed.wait()
        except TimeoutError as error:
            if self.state is ForkServerState.STARTING:
                self._end_silent()
            raise StartFailed(
                "The runtime did not get ready.",
                why=self.last_error or f"{self.python} did not import torch in {timeout_s:g} s",
                fix=f"try `{self.python} -c 'import torch'`",
            ) from error

    async def fork(self, arguments: WorkerArguments, descriptors: Sequence[int]) -> int:
        """The process id of a new worker, a child of the daemon. Raises StartFailed."""
        answer: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        self._asked[arguments.request_id] = answer
        try:
            # One at a time: it forks them one by one, and its socket holds only a few.
            async with self._turn, asyncio.timeout(FORK_S):
                return await self._fork(arguments, descriptors, answer)
        except TimeoutError as error:
            self._end_silent()
            raise StartFailed("The fork server did not fork in time.") from error
        except OSError as error:
            raise StartFailed("The fork server did not fork.", why=str(error)) from error
        finally:
            self._asked.pop(arguments.request_id, None)

    async def _fork(
        self, arguments: WorkerArguments, descriptors: Sequence[int], answer: asyncio.Future[int]
    ) -> int:
        pid = 0
        try:
            cgroup = self._cgroups.prepare(arguments.group)
            self._send(replace(arguments, cgroup=cgroup), descriptors)
            pid = await answer
            return pid
        finally:
            self._cgroups.forked(arguments.group, pid)

    def _end_silent(self) -> None:
        """It lives and says nothing: a new one may do better."""
        log.error("the fork server does not answer and is ended", code="fork_server_hung")
        if self._pidfd >= 0:
            process.send_signal(self._pidfd, signal.SIGKILL)

    def _send(self, arguments: WorkerArguments, descriptors: Sequence[int]) -> None:
        if self._channel is None or self.state is not ForkServerState.READY:
            raise StartFailed("The fork server is not ready.", why=self.last_error)
        socket.send_fds(self._channel, [pack_arguments(arguments)], list(descriptors))

    def forget(self) -> None:
        """A worker's process is gone; what it had started may be there."""
        self._cgroups.left()

    def next_request_id(self) -> int:
        """A number for `WorkerArguments.request_id`."""
        self._next_id += 1
        return self._next_id

    def stop(self) -> None:
        """End the process; workers go on."""
        self._is_wanted = False
        if self._pidfd >= 0:
            process.send_signal(self._pidfd, signal.SIGKILL)

    async def wait_until_exited(self) -> None:
        """Return when the stopped process is gone."""
        while self.state is not ForkServerState.EXITED:
            self._changed.clear()
            await self._changed.wait()

    def _watch(self, channel: socket.socket, output_end: int) -> None:
        loop = asyncio.get_running_loop()
        self._channel = channel
        self._pidfd = process.open_pidfd(self.pid)
        self._pipe = OutputPipe(output_end, self._output, loop)
        self._pipe.watch()
        loop.add_reader(self._pidfd, self._on_exit)
        loop.add_reader(channel.fileno(), self._on_message)

    def _on_message(self) -> None:
        if self._channel is None:
            return
        try:
            message = self._channel.recv(MAX_REPLY_BYTES)
            if not message:
                asyncio.get_running_loop().remove_reader(self._channel.fileno())
            elif self.state is ForkServerState.STARTING:
                self._on_hello(message)
            else:
                self._on_reply(message)
        except BlockingIOError:
            return
        except (OSError, ProtocolError) as error:
            log.error("the fork server is not understood: %s", error, code="worker_killed")
            process.send_signal(self._pidfd, signal.SIGKILL)

    def _on_hello(self, message: bytes) -> None:
        try:
            versions = json.loads(message)
        except ValueError as error:
            raise ProtocolError("no greeting") from error
        self.versions = {str(key): str(value)[:64] for key, value in dict(versions).items()}
        self.state = ForkServerState.READY
        self._restarts = 0
        self._changed.set()
        log.info(
            "runtime %s ready: torch %s",
            self.runtime,
            self.versions.get("torch"),
            code="runtime_ready",
        )

    def _on_reply(self, message: bytes) -> None:
        request_id, pid, trouble = unpack_reply(message)
        answer = self._asked.get(request_id)
        if answer is None or answer.done():
            # Nobody has waited for it: a worker that nobody knows must not stay.
            if pid > 0:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            return
        if pid > 0:
            answer.set_result(pid)
            if trouble:
                self._cgroups.failed(trouble)
        else:
            answer.set_exception(StartFailed("The fork server could not fork.", why=trouble[:500]))

    def _on_exit(self) -> None:
        loop = asyncio.get_running_loop()
        if self._process is None or self._process.poll() is None:
            return
        loop.remove_reader(self._pidfd)
        os.close(self._pidfd)
        self._pidfd = -1
        if self._channel is not None:
            loop.remove_reader(self._channel.fileno())
            self._channel.close()
            self._channel = None
        if self._pipe is not None:
            self._pipe.close()
        self.state = ForkServerState.EXITED
        self._changed.set()
        self._fail_asked()
        if self._is_wanted:
            status = self._process.returncode
            self._restart_later(loop, f"the fork server ended with status {status}")

    def _fail_asked(self) -> None:
        for answer in self._asked.values():
            if not answer.done():
                answer.set_exception(StartFailed("The fork server died."))

    def _restart_later(self, loop: asyncio.AbstractEventLoop, why: str) -> None:
        self.last_error = why
        delay_s = min(0.5 * 2.0 ** min(self._restarts, 10), MAX_RESTART_DELAY_S)
        self._restarts += 1
        log.error("%s; next start in %.1f s", self.last_error, delay_s, code="fork_server_died")
        loop.call_later(delay_s, self._restart, loop)

    def _restart(self, loop: asyncio.AbstractEventLoop) -> None:
        if not self._is_wanted:
            return
        try:
            self._start()
        except (StartFailed, OSError) as error:
            self._restart_later(loop, f"{error} {getattr(error, 'why', '')}".strip())
