"""The daemon: makes the parts, joins them, starts and stops them in order.

Start: fork server, models, control socket, listeners, then ready. Stop: the same list backwards,
draining. Signals, the watchdog and reloads are handled here."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import Callable
from pathlib import Path

from tsd import process, systemd
from tsd.api.access import CONTROL
from tsd.api.management import Management
from tsd.api.observe import DaemonFacts, Observe
from tsd.api.predictions import Predictions
from tsd.api.routes import Router, Routes
from tsd.config import RESTART_KEYS, changed, reloaded
from tsd.doors import Doors
from tsd.errors import TsdError
from tsd.log import Log, get_logger
from tsd.operations import Operations
from tsd.serving.fork_server import ForkServer
from tsd.serving.model import ModelState
from tsd.serving.plan import Machine
from tsd.serving.registry import Registry
from tsd.serving.worker_output import WorkerOutput
from tsd.settings import Config

LAST_ANSWERS_S = 5.0
EXTEND_S = 30.0
REAP_S = 2.0

log = get_logger()


class Daemon:
    """Runs once, from `run` to its return."""

    def __init__(
        self,
        config: Config,
        environment: systemd.Environment,
        journal: Log,
        reload: Callable[[], Config],
    ) -> None:
        self._config = config
        self._environment = environment
        self._log = journal
        self._load_again = reload
        self._notifier = systemd.notifier(environment)
        self._state = "starting"
        self._started_at = time.monotonic()
        self._stop_asked = asyncio.Event()
        self._registry = Registry()
        self._fork_server = self._make_fork_server()
        machine = Machine(config, self._fork_server, find_devices(), os.getpid())
        self._operations = Operations(self._registry, machine)
        self._doors = Doors(
            config, systemd.inherited_sockets(environment), Router(self._routes()).handle
        )

    async def run(self) -> None:
        """Start, serve until asked to stop, drain."""
        folders = (self._config.runtime_dir, self._config.state_dir)
        locks = [process.lock_directory(folder) for folder in folders]
        try:
            process.become_subreaper()
            self._handle_signals()
            await self._start()
            await self._stop_asked.wait()
            await self._stop()
        finally:
            for lock in locks:
                os.close(lock)

    async def _start(self) -> None:
        self._feed_watchdog()
        self._reap_strangers()
        self._fork_server.start()
        # Before anybody can ask for a change: it would be saved over what has not been read.
        await self._operations.restore()
        await self._doors.open_control()
        await self._operations.load_at_start(self._config.models)
        await self._doors.open_others()
        for door in self._doors.addresses():
            log.info("listening on %s", door["address"], door=door["name"], code="listening")
        settled = asyncio.ensure_future(self._operations.wait_until_settled())
        stopped = asyncio.ensure_future(self._stop_asked.wait())
        while not settled.done() and not stopped.done():
            self._notifier.extend_timeout(EXTEND_S)
            self._notifier.status(self._status())
            await asyncio.wait(
                (settled, stopped), timeout=EXTEND_S / 2, return_when=asyncio.FIRST_COMPLETED
            )
        stopped.cancel()
        if not self._stop_asked.is_set():
            self._state = "ready"
            self._notifier.ready(self._status())
            took_s = time.monotonic() - self._started_at
            log.info("ready in %.2f s: %s", took_s, self._status(), code="ready")

    async def _stop(self) -> None:
        self._state = "draining"
        self._notifier.stopping()
        log.info("stopping: what has begun is finished", code="stopping")
        drain_s = self._config.serving.drain_s
        doors = [door for door in self._doors.open if door.name != CONTROL]
        for door in doors:
            door.listener.stop_accepting()
        cut = sum(await asyncio.gather(*[door.listener.drain(drain_s) for door in doors]))
        await self._operations.drain_all(LAST_ANSWERS_S)
        self._fork_server.stop()
        await self._fork_server.wait_until_exited()
        for door in self._doors.open:
            door.listener.stop_accepting()
            await door.listener.drain(LAST_ANSWERS_S)
            door.listener.close()
            if door.path is not None:
                door.path.unlink(missing_ok=True)
        log.info("stopped; %d connections were cut", cut, code="drained")

    def _routes(self) -> dict[str, Routes]:
        predictions = Predictions(self._registry)
        management = Management(self._registry, self._operations)
        observe = Observe(
            self._registry,
            self._fork_server,
            self._log.ring,
            DaemonFacts(
                state=lambda: self._state,
                connections=lambda: self._doors.connections,
                doors=lambda: self._doors.addresses(),
                log_dropped=lambda: self._log.dropped,
                runtime_dir=self._config.runtime_dir,
                state_dir=self._config.state_dir,
                started_at=self._started_at,
            ),
        )
        inference = {
            "predictions": predictions.predict,
            "explanations": predictions.explain,
        }
        manage = management.routes | observe.operator_routes
        everything = manage | observe.health_routes | observe.metrics_routes
        return {
            "http": Routes(inference, observe.health_routes),
            "metrics": Routes({}, observe.metrics_routes | observe.health_routes),
            "management": Routes({}, manage),
            CONTROL: Routes(inference, everything),
        }

    def _make_fork_server(self) -> ForkServer:
        bound = log.bind(source="fork server")
        settings = self._config.log
        output = WorkerOutput(
            lambda line: bound.warning("%s", line),
            lambda lines: bound.warning("%d lines left out", lines, code="log_suppressed"),
            settings.worker_lines_per_s,
            settings.worker_line_bytes,
        )
        return ForkServer(self._config.python, self._environment.for_children(), output)

    def _status(self) -> str:
        models = list(self._registry)
        ready = sum(model.state is ModelState.READY for model in models)
        failed = [model.name for model in models if model.state is ModelState.FAILED]
        text = f"{ready} of {len(models)} models ready"
        return f"{text}; failed: {', '.join(failed)}" if failed else text

    def _handle_signals(self) -> None:
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._stop_asked.set)
        loop.add_signal_handler(signal.SIGHUP, self._reload)

    def _reload(self) -> None:
        """Read the configuration again; a bad one changes nothing."""
        self._notifier.reloading()
        try:
            config = self._load_again()
        except TsdError as error:
            log.error("reload failed: %s", error, why=error.why, code="reload_failed")
            self._tell_state()
            return
        keys = changed(self._config, config)
        late = [key for key in keys if key in RESTART_KEYS]
        config = reloaded(self._config, config)
        self._config = config
        self._log.set_level(config.log.level)
        for door in self._doors.open:
            door.listener.limits = config.http
        self._operations.configure(config)
        log.info("reloaded: %s", ", ".join(keys) or "nothing changed", code="reloaded")
        if late:
            log.warning("these need a restart: %s", ", ".join(late), code="restart_needed")
        self._tell_state()

    def _tell_state(self) -> None:
        """A reload is over; before the models are, or after they were, that is not `ready`."""
        if self._state == "ready":
            self._notifier.ready(self._status())
        else:
            self._notifier.status(self._status())

    def _reap_strangers(self) -> None:
        """What handlers leave behind comes to the subreaper. (uvloop keeps SIGCHLD to itself.)"""
        asyncio.get_running_loop().call_later(REAP_S, self._reap_strangers)
        workers = {w.pid for model in self._registry for w in model.pool.workers.values()}
        process.reap_all_but(workers | {self._fork_server.pid})

    def _feed_watchdog(self) -> None:
        """Fed from the loop: when the loop is stuck, systemd restarts the daemon."""
        interval_s = systemd.watchdog_interval_s(self._environment)
        if interval_s is not None:
            self._notifier.watchdog()
            asyncio.get_running_loop().call_later(interval_s, self._feed_watchdog)


def find_devices() -> tuple[str, ...]:
    """`cuda:0` … as the driver's device nodes say, without loading it; else `cpu`."""
    nodes = [node for node in Path("/dev").glob("nvidia[0-9]*") if node.name[6:].isdigit()]
    return tuple(f"cuda:{index}" for index in range(len(nodes))) or ("cpu",)
