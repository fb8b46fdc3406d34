"""What is measured, when, and where it goes: the metrics page, and TorchServe's files.

The metrics and their text are in torchserve_metrics.py, the files in log_files.py."""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import Callable
from itertools import chain, repeat

from tsd import log_files, metrics_file, system_load
from tsd.http.answers import OnAnswer
from tsd.http.message import Request, Response
from tsd.log import LogRing, get_logger
from tsd.log_files import LogFiles
from tsd.settings import Config
from tsd.system_load import Reading
from tsd.torchserve_metrics import TorchServeMetrics

LOG_S = 1.0
FIRST_S = 1.0

log = get_logger()


class Measuring:
    """From `start` to `stop`. `read` gives the daemon's own metrics as they stand."""

    def __init__(self, config: Config, read: Callable[[], list[Reading]]) -> None:
        self._config = config
        self._read = read
        self.declared = metrics_file.read(config.metrics.file)
        self.metrics = TorchServeMetrics(config.metrics, self.declared, socket.gethostname())
        self.files = LogFiles(config.log, config.metrics)
        self.metrics.handlers.write = self.files.writer(log_files.MODEL_METRICS)
        self._write = self.files.writer(log_files.DAEMON_METRICS)
        self._load: list[Reading] = []
        self._running: list[asyncio.Task[None]] = []

    @property
    def on_answer(self) -> OnAnswer | None:
        """To be told of each answer, where there is an access log."""
        return self._log_answer if self._config.log.folder else None

    def start(self, ring: LogRing) -> None:
        """Measure from now on, and log where that is asked for."""
        self.files.start()
        if self._config.log.folder:
            for record in ring.records(self._config.log.kept_records):
                self.files.record(record)
            ring.subscribe(self.files.record)
        loop = asyncio.get_running_loop()
        if self._config.metrics.system:
            self._running.append(loop.create_task(self._measure_load()))
        if self._write is not None:
            self._running.append(loop.create_task(self._log()))

    def stop(self) -> None:
        """Log what is left, and end."""
        for running in self._running:
            running.cancel()
        self._log_news()
        self.files.stop()

    def readings(self) -> list[Reading]:
        """The daemon's metrics and the machine's load."""
        return [*self._read(), *self._load]

    async def _measure_load(self) -> None:
        loop = asyncio.get_running_loop()
        # The processor's load is that since the measurement before: the first says nothing of it.
        for wait_s in chain([FIRST_S], repeat(self._config.metrics.interval_s)):
            try:
                self._load = await loop.run_in_executor(None, system_load.measure)
            except OSError as error:
                log.warning(
                    "the machine's load is not known: %s",
                    error,
                    errno=error.errno,
                    code="load_unknown",
                )
            await asyncio.sleep(wait_s)

    async def _log(self) -> None:
        while True:
            await asyncio.sleep(LOG_S)
            self._log_news()

    def _log_news(self) -> None:
        if self._write is not None:
            for line in self.metrics.log_lines(self.readings()):
                self._write(line)

    def _log_answer(self, request: Request, response: Response) -> None:
        head = request.head
        took_s = time.monotonic() - request.accepted_at
        self.files.access(request.remote, (head.method, head.target), response.status, took_s)
