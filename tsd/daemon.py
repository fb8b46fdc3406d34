"""The daemon: makes the parts, joins them, starts and stops them in order.

Start: fork server, models, control socket, listeners, then ready. Stop: the same list backwards,
draining. Signals, the watchdog and reloads are handled here."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from tsd import process, systemd, tls
from tsd.api import readings
from tsd.api.access import CONTROL
from tsd.api.cors import with_cors
from tsd.api.management import Management
from tsd.api.observe import DaemonFacts, Observe
from tsd.api.openapi import OpenApi
from tsd.api.predictions import Predictions
from tsd.api.routes import Router, Routes
from tsd.api.table import Handlers, Table
from tsd.api.tokens import make_tokens
from tsd.config import RESTART_KEYS, changed, reloaded
from tsd.devices import VISIBLE_GPUS, find_devices
from tsd.doors import Doors
from tsd.errors import TsdError
from tsd.log import Log, get_logger
from tsd.measuring import Measuring
from tsd.models.startup import models_at_start
from tsd.operations import Operations
from tsd.serving.fork_server import ForkServer
from tsd.serving.model import ModelState
from tsd.serving.plan import Machine
from tsd.serving.registry import Registry
from tsd.serving.worker_output import WorkerOutput
from tsd.settings import Config
from tsd.snapshots import Snapshots

if TYPE_CHECKING:
    from tsd.grpc.server import GrpcDoors

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
        self._measuring = Measuring(
            config, lambda: readings.read(self._registry, self._doors.answered)
        )
        machine = Machine(
            config,
            self._fork_server,
            find_devices(environment.variables.get(VISIBLE_GPUS)),
            os.getpid(),
            on_metric=self._measuring.metrics.handlers.take,
            metrics_config=self._measuring.declared.for_workers(),
        )
        self._snapshots = Snapshots(self._registry, lambda: self._config)
        self._operations = Operations(self._registry, machine, self._snapshots.after_change)
        self._management = Management(self._registry, self._operations)
        self._observe = self._make_observe()
        self._grpc: GrpcDoors | None = None
        self._tokens = make_tokens(config.access)
        self._doors = Doors(
            config,
            systemd.inherited_sockets(environment),
            with_cors(config.cors, Router(self._routes()).handle),
            self._measuring.on_answer,
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
        wanted = models_at_start(self._config)
        self._feed_watchdog()
        self._reap_strangers()
        self._measuring.start(self._log.ring)
        self._fork_server.start()
        self._grpc = self._make_grpc()
        # Before anybody can ask for a change: it would be saved over what has not been read.
        await self._operations.restore()
        await self._doors.open_control()
        await self._operations.load_at_start(wanted)
        await self._open_doors()
        await self._snapshots.at_startup()
        if self._config.torchserve.is_strict:
            # What scripts that start TorchServe wait for.
            sys.stdout.write("Model server started.\n")
            sys.stdout.flush()
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

    async def _open_doors(self) -> None:
        if self._tokens is not None:
            self._tokens.publish()
        await self._doors.open_others()
        if self._grpc is not None:
            await self._grpc.open()
        for door in self._addresses():
            log.info("listening on %s", door["address"], door=door["name"], code="listening")

    async def _stop(self) -> None:
        self._state = "draining"
        self._notifier.stopping()
        log.info("stopping: what has begun is finished", code="stopping")
        await self._snapshots.at_shutdown()
        drain_s = self._config.serving.drain_s
        doors = [door for door in self._doors.open if door.name != CONTROL]
        for door in doors:
            door.listener.stop_accepting()
        draining = [door.listener.drain(drain_s) for door in doors]
        grpc = asyncio.ensure_future(self._grpc.drain(drain_s)) if self._grpc else None
        cut = sum(await asyncio.gather(*draining))
        if grpc is not None:
            await grpc
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
        self._measuring.stop()

    def _routes(self) -> dict[str, list[Routes]]:
        management, observe = self._management, self._observe
        handlers = Handlers(
            predictions=Predictions(self._registry, self._config.serving).routes,
            ping={("*", "/ping/*"): observe.ping},
            health=observe.health_routes,
            management=management.routes,
            metrics=observe.metrics_routes,
            operator=observe.operator_routes,
            openapi=OpenApi(self._registry),
        )
        return Table(handlers, self._config, self._tokens).of_doors()

    def _make_observe(self) -> Observe:
        return Observe(
            self._registry,
            self._fork_server,
            self._log.ring,
            DaemonFacts(
                state=lambda: self._state,
                connections=lambda: self._doors.connections,
                doors=self._addresses,
                log_dropped=lambda: self._log.dropped + self._measuring.files.dropped,
                readings=self._measuring.readings,
                torchserve_metrics=self._measuring.metrics,
                shows_own_metrics=not (
                    self._config.torchserve.is_strict and self._config.metrics.mode != "prometheus"
                ),
                runtime_dir=self._config.runtime_dir,
                state_dir=self._config.state_dir,
                started_at=self._started_at,
            ),
        )

    def _make_grpc(self) -> GrpcDoors | None:
        doors, is_tls = self._config.doors, self._config.tls.grpc
        if doors.grpc == doors.grpc_management == "none":
            return None
        # The library cares for forks that are none of its business, and logs without a bound.
        os.environ.setdefault("GRPC_ENABLE_FORK_SUPPORT", "false")
        os.environ.setdefault("GRPC_VERBOSITY", "NONE")
        # Loaded only where it is asked for: a large library, for memory and for the start.
        from tsd.grpc.server import GrpcDoors, Parts

        parts = Parts(
            self._registry,
            self._management,
            self._observe.is_healthy,
            self._observe.is_ready,
            identity=tls.read_identity(self._config.tls) if is_tls else None,
            tokens=self._tokens,
        )
        return GrpcDoors(self._config, parts)

    def _addresses(self) -> list[dict[str, str]]:
        return self._doors.addresses() + (self._grpc.addresses() if self._grpc else [])

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
        self._measuring.files.reopen()
        try:
            config = self._load_again()
            self._doors.renew_certificate(config.tls)
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
        workers = [w for model in self._registry for w in model.pool.workers.values()]
        known = {pid for worker in workers for pid in worker.pids}
        process.reap_all_but(known | {self._fork_server.pid})

    def _feed_watchdog(self) -> None:
        """Fed from the loop: when the loop is stuck, systemd restarts the daemon."""
        interval_s = systemd.watchdog_interval_s(self._environment)
        if interval_s is not None:
            self._notifier.watchdog()
            asyncio.get_running_loop().call_later(interval_s, self._feed_watchdog)
