"""The daemon: makes the parts, joins them, starts and stops them in order.

Start: fork server, models, control socket, listeners, then ready. Stop: the same list backwards,
draining. Signals and reloads are handled here."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import importlib
import os
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path

from tsd import process, programs, systemd, tls
from tsd.api import readings
from tsd.api.cors import with_cors
from tsd.api.management import Management
from tsd.api.observe import DaemonFacts, Observe
from tsd.api.openapi import OpenApi
from tsd.api.predictions import Predictions
from tsd.api.reload import Reloaded
from tsd.api.reload import routes as reload_routes
from tsd.api.routes import Router, Routes
from tsd.api.runtimes import RuntimeRoutes
from tsd.api.table import Handlers, Table
from tsd.api.tokens import make_tokens
from tsd.cgroups import Cgroups, handed_over, limits_of
from tsd.config import RESTART_KEYS, changed, reloaded
from tsd.devices import VISIBLE_GPUS, find_devices
from tsd.doors import Doors, check_inherited
from tsd.errors import TsdError
from tsd.heartbeat import Heartbeat
from tsd.idle import IdleWatch
from tsd.log import Log, get_logger
from tsd.measuring import Measuring
from tsd.models.startup import models_at_start
from tsd.operations import Operations
from tsd.runtime_operations import RuntimeOperations
from tsd.runtimes.book import Runtime, Runtimes, own_interpreter
from tsd.serving.fork_server import ForkServer
from tsd.serving.fork_servers import ForkServers
from tsd.serving.model import ModelState
from tsd.serving.plan import Machine
from tsd.serving.registry import Registry
from tsd.serving.worker_output import WorkerOutput
from tsd.settings import Config
from tsd.snapshots import Snapshots

LAST_ANSWERS_S = 5.0
REAP_S = 5.0
REAP_SOON_S = 0.25

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
        self._has_idled = False
        self._heartbeat = Heartbeat(
            self._notifier,
            systemd.watchdog_interval_s(environment),
            lambda: self._state != "ready",
        )
        self._registry = Registry()
        self._reaping: asyncio.TimerHandle | None = None
        self._cgroups = Cgroups(handed_over(), limits_of(config.serving), self._reap_soon)
        self._runtimes = Runtimes(config.state_dir, config.python, own_interpreter())
        self._fork_servers = ForkServers(self._runtimes, self._make_fork_server)
        self._measuring = Measuring(
            config, lambda: readings.read(self._registry, self._doors.answered)
        )
        machine = Machine(
            config,
            self._fork_servers,
            find_devices(environment.variables.get(VISIBLE_GPUS)),
            on_metric=self._measuring.metrics.handlers.take,
            metrics_config=self._measuring.declared.for_workers(),
        )
        self._snapshots = Snapshots(self._registry, lambda: self._config)
        self._operations = Operations(self._registry, machine, self._snapshots.after_change)
        self._management = Management(self._registry, self._operations)
        self._runtime_operations = RuntimeOperations(
            self._fork_servers, environment.for_children(), lambda: self._config, self._operations
        )
        self._observe = self._make_observe()
        self._tokens = make_tokens(config.access)
        inherited = systemd.inherited_sockets(environment)
        check_inherited(inherited, config)
        self._doors = Doors(
            config,
            inherited,
            with_cors(config.cors, Router(self._routes()).handle),
            self._measuring.on_answer,
        )

    async def run(self) -> bool:
        """Start, serve until asked to stop, drain. Whether it leaves because nobody asked it."""
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
        return self._has_idled

    async def _start(self) -> None:
        wanted = models_at_start(self._config)
        self._heartbeat.start()
        self._cgroups.take_over()
        self._reap_strangers()
        self._measuring.start(self._log.ring)
        await self._runtimes.read()
        self._fork_servers.start_default()
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
        self._notifier.status(self._status())
        await asyncio.wait((settled, stopped), return_when=asyncio.FIRST_COMPLETED)
        stopped.cancel()
        if not self._stop_asked.is_set():
            self._state = "ready"
            self._notifier.ready(self._status())
            took_s = time.monotonic() - self._started_at
            log.info("ready in %.2f s: %s", took_s, self._status(), code="ready")
            self._watch_idleness()

    async def _open_doors(self) -> None:
        if self._tokens is not None:
            self._tokens.publish()
        # What is there now stays: to look through all of it for garbage would hold the loop.
        gc.freeze()
        await self._doors.open_others()
        took_s = time.monotonic() - self._started_at
        log.info("accepting after %.2f s", took_s, code="accepting")
        await self._open_grpc()
        for door in self._doors.addresses():
            log.info("listening on %s", door["address"], door=door["name"], code="listening")

    async def _stop(self) -> None:
        self._state = "draining"
        self._notifier.stopping()
        log.info("stopping: what has begun is finished", code="stopping")
        self._observe.end_streams()
        self._runtime_operations.give_up()
        await self._snapshots.at_shutdown()
        drained = await self._doors.drain(self._config.serving.drain_s)
        await self._operations.drain_all(LAST_ANSWERS_S)
        await self._fork_servers.stop()
        await self._doors.close(LAST_ANSWERS_S)
        words = (drained.answered, drained.cut)
        log.info("drained n=%d; %d clients were cut", *words, n=drained.answered, code="drained")
        self._measuring.stop()

    def _watch_idleness(self) -> None:
        limit_s = self._config.exit_on_idle_s
        if limit_s:
            doors = self._doors
            IdleWatch(limit_s, lambda: doors.asked, lambda: doors.is_busy, self._leave).look()

    def _leave(self) -> None:
        log.info("nothing was asked for %g s", self._config.exit_on_idle_s, code="idle")
        self._has_idled = True
        self._stop_asked.set()

    def _routes(self) -> dict[str, list[Routes]]:
        management, observe = self._management, self._observe
        handlers = Handlers(
            predictions=Predictions(self._registry, self._config.serving).routes,
            ping={("*", "/ping/*"): observe.ping},
            health=observe.health_routes,
            management=management.routes,
            metrics=observe.metrics_routes,
            operator=observe.operator_routes,
            runtimes=RuntimeRoutes(self._runtime_operations).routes,
            reload=reload_routes(self._reload),
            openapi=OpenApi(self._registry),
        )
        return Table(handlers, self._config, self._tokens).of_doors()

    def _make_observe(self) -> Observe:
        return Observe(
            self._registry,
            self._fork_servers,
            self._log.ring,
            DaemonFacts(
                state=lambda: self._state,
                connections=lambda: self._doors.connections,
                doors=lambda: self._doors.addresses(),
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

    async def _open_grpc(self) -> None:
        if not self._doors.has_grpc:
            return
        # The library cares for forks that are none of its business, and logs without a bound.
        os.environ.setdefault("GRPC_ENABLE_FORK_SUPPORT", "false")
        os.environ.setdefault("GRPC_VERBOSITY", "NONE")
        # Loaded only where it is asked for, and while others are served: it is a large library.
        await asyncio.to_thread(importlib.import_module, "tsd.grpc.server")
        from tsd.grpc.server import GrpcDoors, Parts

        parts = Parts(
            self._registry,
            self._management,
            self._observe.is_healthy,
            self._observe.is_ready,
            identity=tls.read_identity(self._config.tls) if self._config.tls.grpc else None,
            tokens=self._tokens,
        )
        await self._doors.open_grpc(lambda sockets: GrpcDoors(self._config, parts, sockets))

    def _make_fork_server(self, runtime: Runtime) -> ForkServer:
        bound = log.bind(source="fork server", runtime=runtime.name)
        settings = self._config.log
        output = WorkerOutput(
            lambda line: bound.warning("%s", line.text),
            lambda n: bound.warning("%d lines left out", n, n=n, code="log_suppressed"),
            settings.worker_lines_per_s,
            settings.worker_line_bytes,
        )
        environment = self._environment.for_children()
        return ForkServer(
            runtime.name,
            Path(runtime.python),
            environment,
            output,
            self._cgroups,
        )

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
        loop.add_signal_handler(signal.SIGHUP, self._on_hangup)

    def _on_hangup(self) -> None:
        # What is wrong has been told in the log.
        with contextlib.suppress(TsdError):
            self._reload()

    def _reload(self) -> Reloaded:
        """Read the configuration again; a bad one changes nothing, and raises ConfigError."""
        self._notifier.reloading()
        self._measuring.files.reopen()
        try:
            return self._apply(self._load_again())
        except TsdError as error:
            log.error("reload failed: %s", error, why=error.why, code="reload_failed")
            raise
        finally:
            self._tell_state()

    def _apply(self, config: Config) -> Reloaded:
        self._doors.renew_certificate(config.tls)
        keys = changed(self._config, config)
        late = [key for key in keys if key in RESTART_KEYS]
        config = reloaded(self._config, config)
        self._config = config
        self._log.set_level(config.log.level)
        self._doors.configure(config)
        self._operations.configure(config)
        self._cgroups.configure(limits_of(config.serving))
        log.info("reloaded: %s", ", ".join(keys) or "nothing changed", code="reloaded")
        if late:
            log.warning("these need a restart: %s", ", ".join(late), code="restart_needed")
        return Reloaded([key for key in keys if key not in late], late)

    def _tell_state(self) -> None:
        """A reload is over; before the models are, or after they were, that is not `ready`."""
        if self._state == "ready":
            self._notifier.ready(self._status())
        else:
            self._notifier.status(self._status())

    def _reap_strangers(self) -> None:
        """What handlers leave behind comes to the subreaper. (uvloop keeps SIGCHLD to itself.)"""
        has_more = self._cgroups.sweep()
        workers = [w for model in self._registry for w in model.pool.workers.values()]
        known = {pid for worker in workers for pid in worker.pids}
        process.reap_all_but(known | self._fork_servers.pids | programs.pids)
        self._reap_in(REAP_SOON_S if has_more else REAP_S)

    def _reap_soon(self) -> None:
        self._reap_in(REAP_SOON_S)

    def _reap_in(self, delay_s: float) -> None:
        loop = asyncio.get_running_loop()
        now = loop.time()
        if self._reaping is not None:
            if now < self._reaping.when() <= now + delay_s:
                return
            self._reaping.cancel()
        self._reaping = loop.call_at(now + delay_s, self._reap_strangers)
