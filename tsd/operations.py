"""The operator's verbs on models: register, scale, unregister, set default, restore.

Start-up, reload and tsctl all use these. A change is on disk before it is acknowledged; when it
cannot be saved it is not made."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from tsd.desired import Desired
from tsd.errors import (
    AlreadyRegistered,
    BadRequest,
    Busy,
    NoRuntime,
    TsdError,
    UnknownRuntime,
)
from tsd.log import get_logger
from tsd.models.archive import default_name
from tsd.models.description import RegisterOptions
from tsd.models.intake import Intake, Newcomer
from tsd.models.startup import StartupModel
from tsd.models.state import DesiredVersion
from tsd.models.store import Origin
from tsd.serving.model import Model, workers_between
from tsd.serving.plan import Machine
from tsd.serving.registry import Registry
from tsd.settings import Config

PHASES = ("queued", "unpacking", "loading", "warming", "ready")

log = get_logger()


class Progress:
    """Tells `report` each change of phase of one registration or scaling."""

    def __init__(self, report: Callable[[dict[str, object]], None]) -> None:
        self._report = report
        self._began_at = time.monotonic()
        self._last: tuple[object, ...] = ()

    def phase(self, name: str) -> None:
        """A phase before there is a model."""
        self._say({"phase": name})

    def follow(self, model: Model) -> None:
        """Where the model's workers are now: the phase of the one that is furthest behind."""
        pool = model.pool
        starting = [worker.phase for worker in pool.workers.values() if not worker.is_serving]
        phase = "ready" if pool.is_as_wanted else furthest_behind(starting)
        self._say(
            {
                "phase": phase,
                "model": model.name,
                "version": model.version,
                "ready": pool.serving,
                "wanted": pool.wanted,
            }
        )

    def _say(self, words: dict[str, object]) -> None:
        told = tuple(words.values())
        if told != self._last:
            self._last = told
            self._report(words | {"elapsed_s": round(time.monotonic() - self._began_at, 4)})


def furthest_behind(phases: Iterable[str]) -> str:
    """Of the phases of several workers the earliest; without any, nothing has begun."""
    return min(phases, key=_rank, default=PHASES[0])


def _rank(phase: str) -> int:
    return PHASES.index(phase) if phase in PHASES else len(PHASES)


async def _nothing() -> None:
    """Where nobody wants to know of changes."""


@dataclass(frozen=True, slots=True)
class Scaling:
    """What a model shall have from now on; of its batches, None: as before."""

    least: int
    most: int
    batch_size: int | None = None
    batch_delay_ms: int | None = None

    @property
    def changes_batches(self) -> bool:
        """Whether anything is said of batches."""
        return self.batch_size is not None or self.batch_delay_ms is not None


class Operations:
    """Changes the registry and the desired state together, and then calls `after_change`."""

    def __init__(
        self,
        registry: Registry,
        machine: Machine,
        after_change: Callable[[], Awaitable[None]] = _nothing,
    ) -> None:
        self._registry = registry
        self._after_change = after_change
        self._machine = machine
        self._intake = Intake(machine.config, machine.fork_servers.ready)
        self._desired = Desired(machine.config.state_dir)
        self._sources: dict[tuple[str, str], tuple[Origin, RegisterOptions]] = {}
        self._changing: set[str] = set()

    def configure(self, config: Config) -> None:
        """Settings for the models that are registered from now on."""
        self._machine = replace(self._machine, config=config)
        self._intake.config = config

    def check_runtime(self, name: str) -> None:
        """Raise NoRuntime or UnknownRuntime where a model could not have that runtime."""
        self._machine.fork_servers.runtimes.find(name)

    @property
    def runtimes_in_use(self) -> dict[str, list[str]]:
        """Runtime -> the models that name it, or whose workers have it."""
        used: dict[str, list[str]] = {}
        for model in self._registry:
            if model.runtime.name:
                used.setdefault(model.runtime.name, []).append(f"{model.name}/{model.version}")
        return used

    async def try_again(self) -> None:
        """A runtime has come: what could not start or be restored is tried now."""
        for model in self._registry:
            model.pool.try_again()
        known = {(model.name, model.version) for model in self._registry}
        for name, version, desired in list(self._desired):
            if (name, version) not in known and name not in self._changing:
                with self._change_of(name):
                    await self._restore_one(name, version, desired)
        self._restore_defaults()

    async def register(
        self,
        url: str,
        options: RegisterOptions,
        progress: Progress,
        *,
        is_local_caller: bool,
        is_synchronous: bool,
    ) -> Model:
        """Unpack, check, load and enter a model; when it fails, nothing of it is left."""
        if options.handler and not is_local_caller:
            # As in TorchServe the last part counts; what lies elsewhere is not for strangers.
            options = replace(options, handler=options.handler.rpartition("/")[2])
        async with self._intake.fetched(url, is_local_caller=is_local_caller) as origin:
            progress.phase("unpacking")
            newcomer = await self._intake.newcomer(origin, None, options)
            async with self._new_change_of(newcomer):
                self.check_runtime(newcomer.description.runtime)
                model = await self._enter(newcomer, options)
                try:
                    if is_synchronous:
                        await model.wait_for_workers(lambda: progress.follow(model))
                    await self._want(model)
                except BaseException:
                    await self._remove(model)
                    raise
        await self._after_change()
        return model

    async def unregister(self, name: str, version: str | None) -> None:
        """Strike a version out; its running requests are answered first."""
        with self._change_of(name):
            if self._is_only_wanted(name, version):
                # It could not be restored; now it is not even wanted.
                await self._desired.drop(name, version)
                return
            model = self._registry.check_removable(name, version)
            await self._desired.drop(name, model.version)
            await self._remove(model)
        await self._after_change()

    async def scale(
        self,
        model: Model,
        scaling: Scaling,
        progress: Progress,
        *,
        is_synchronous: bool,
    ) -> None:
        """Bring the workers up to the least or down to the most; change the limits of batches."""
        self._check_scaling(model, scaling)
        least, most = scaling.least, scaling.most
        with self._change_of(model.name):
            if self._registry.find(model.name, model.version) is not model:
                raise Busy(f"Model {model.name} has been registered anew.", fix="try again")
            wanted = workers_between(model.pool.wanted, least, most)
            origin, options = self._sources[model.name, model.version]
            options = _rebatched(options, scaling)
            await self._want(model, workers=wanted, options=options)
            self._sources[model.name, model.version] = (origin, options)
            if scaling.changes_batches:
                model.rebatch(scaling.batch_size, scaling.batch_delay_ms)
            model.scale(least, most)
            if is_synchronous:
                await model.wait_for_workers(lambda: progress.follow(model))
        await self._after_change()

    def _check_scaling(self, model: Model, scaling: Scaling) -> None:
        limit = self._machine.config.serving.max_workers
        if scaling.least < 0 or scaling.most < scaling.least:
            raise BadRequest("max_worker cannot be less than min_worker.")
        if scaling.most > limit:
            raise BadRequest(
                f"{scaling.most} workers are more than this daemon allows.",
                why=f"serving.max_workers is {limit}",
                fix="raise serving.max_workers, or ask for fewer",
            )
        is_other = scaling.batch_size not in (None, model.description.batch_size)
        if is_other and model.description.is_stateful:
            raise BadRequest(
                f"The batch size of {model.name} cannot be changed while it serves.",
                why="its workers hold the state of sequences, and would have to be replaced",
                fix="register it anew, with another batch_size",
            )

    async def set_default(self, name: str, version: str) -> None:
        """Make a version the one that answers when none is named."""
        with self._change_of(name):
            model = self._registry.check_version(name, version)
            await self._want(model, default_version=version)
            self._registry.set_default(name, version)
        await self._after_change()

    async def restore(self) -> None:
        """Enter the models of the desired state; workers start, nobody waits for them here."""
        await self._desired.read()
        wanted = list(self._desired)
        kept = [Path(desired.model_dir) for _, _, desired in wanted]
        await self._intake.discard_left_over(kept)
        for name, version, desired in wanted:
            await self._restore_one(name, version, desired)
        if wanted:
            workers = sum(desired.workers for _, _, desired in wanted)
            log.info(
                "%d models of the last run start", len(wanted), workers=workers, code="recovered"
            )
        self._restore_defaults()

    def _restore_defaults(self) -> None:
        known = set(self._registry.names)
        for name, version in self._desired.defaults.items():
            if name in known:
                self._registry.set_default_if_known(name, version)

    async def load_at_start(self, models: Iterable[StartupModel]) -> None:
        """Enter what is to be served from the start."""
        for wanted in models:
            try:
                await self._load_at_start(wanted)
            except AlreadyRegistered as error:
                log.info("%s: as it was left, not as at the first start", error)
            except Exception as error:  # noqa: BLE001 (whatever is wrong with one, others load)
                why = getattr(error, "why", "")
                log.error(
                    "model %s not loaded: %s", wanted.url, error, why=why, code="model_not_loaded"
                )
        await self._intake.discard_unused()

    async def _load_at_start(self, wanted: StartupModel) -> None:
        origin = await self._intake.origin(wanted.url, is_local_caller=True, at_start=True)
        options = replace(wanted.options, default_name=default_name(origin.path))
        newcomer = await self._intake.newcomer(origin, None, options, at_start=True)
        async with self._new_change_of(newcomer):
            model = await self._enter(newcomer, options, workers=wanted.min_workers, at_start=True)
        if wanted.min_workers is not None:
            model.scale(wanted.min_workers, wanted.max_workers)
        if wanted.is_default:
            self._registry.set_default(model.name, model.version)

    async def wait_until_settled(self) -> None:
        """Return when every model is ready or failed."""
        await asyncio.gather(*[model.wait_until_settled() for model in self._registry])

    async def drain_all(self, timeout_s: float) -> None:
        """Finish what has begun in every model, and stop all workers; files and state stay."""
        await asyncio.gather(*[model.drain(timeout_s) for model in self._registry])

    async def _restore_one(self, name: str, version: str, desired: DesiredVersion) -> None:
        folder = Path(desired.model_dir)
        try:
            options = RegisterOptions(**desired.options)  # type: ignore[arg-type]  # as saved
            origin = Origin(Path(desired.source), desired.url)
            newcomer = await self._intake.newcomer(origin, folder, options)
            model = await self._enter(newcomer, options, workers=desired.workers)
            if folder != model.description.model_dir:
                await self._want(model)
        except Exception as error:  # noqa: BLE001 (whatever is wrong with one, the others come back)
            log.error(
                "model not restored: %s",
                error,
                why=getattr(error, "why", ""),
                model=name,
                version=version,
                code="model_not_restored",
            )

    async def _enter(
        self,
        newcomer: Newcomer,
        options: RegisterOptions,
        *,
        workers: int | None = None,
        at_start: bool = False,
    ) -> Model:
        """A model in the registry, whose workers are starting."""
        description = newcomer.description
        try:
            self._registry.check_free(description.name, description.version)
            # TorchServe calls only those loaded at the start that were named for it.
            is_from_start = at_start and not options.wins
            model = Model(
                description,
                self._machine,
                is_from_start=is_from_start,
                # Its number of workers was known before: clients have asked for it, and ask on.
                is_returning=at_start or workers is not None,
            )
        except (TsdError, OSError):
            await self._intake.discard(description.model_dir)
            raise
        self._registry.add(model)
        self._sources[model.name, model.version] = (newcomer.origin, options)
        least, most = description.min_workers, description.max_workers
        if workers is not None:
            least, most = workers, max(workers, most)
        model.scale(least, most)
        return model

    @asynccontextmanager
    async def _new_change_of(self, newcomer: Newcomer) -> AsyncIterator[None]:
        """As `_change_of`, with files that nobody needs when it is refused."""
        try:
            with self._change_of(newcomer.description.name):
                yield
        except (Busy, NoRuntime, UnknownRuntime):
            await self._intake.discard(newcomer.description.model_dir)
            raise

    @contextmanager
    def _change_of(self, name: str) -> Iterator[None]:
        """One change of a model at a time: the second one is told so, at once."""
        if name in self._changing:
            raise Busy(
                f"Another change to model {name} is under way.",
                fix="wait until it is done, then try again",
            )
        self._changing.add(name)
        try:
            yield
        finally:
            self._changing.discard(name)

    async def _remove(self, model: Model) -> None:
        drain_s = self._machine.config.serving.drain_s
        # Out of the book only when it is gone: the same version cannot come back meanwhile.
        await model.drain(drain_s)
        self._registry.remove(model)
        self._machine.fork_servers.stop_unused(self.runtimes_in_use)
        origin, _ = self._sources.pop((model.name, model.version))
        await self._intake.discard(model.description.model_dir)
        await self._intake.discard_download(origin)

    def _is_only_wanted(self, name: str, version: str | None) -> bool:
        """Whether it is in the desired state and could not be entered in the registry."""
        wanted = {(one, its) for one, its, _ in self._desired}
        known = {(model.name, model.version) for model in self._registry}
        if version is None:
            return name in self._desired.defaults and name not in self._registry.names
        return (name, version) in wanted - known

    async def _want(
        self,
        model: Model,
        workers: int | None = None,
        default_version: str | None = None,
        options: RegisterOptions | None = None,
    ) -> None:
        """Save that this model is wanted as it is, or with what is said here."""
        origin, known = self._sources[model.name, model.version]
        desired = DesiredVersion(
            source=str(origin.path),
            url=origin.url,
            model_dir=str(model.description.model_dir),
            workers=model.pool.wanted if workers is None else workers,
            options=_said(options or known),
        )
        # A default that could not be restored stays the one that the operator asked for.
        asked = default_version or self._desired.defaults.get(model.name)
        default = asked or self._registry.default_version(model.name)
        await self._desired.put(model.name, model.version, desired, default)


def _rebatched(options: RegisterOptions, scaling: Scaling) -> RegisterOptions:
    """As if the registration had asked for those limits of batches."""
    if scaling.batch_size is not None:
        options = replace(options, batch_size=scaling.batch_size)
    if scaling.batch_delay_ms is not None:
        options = replace(options, max_batch_delay=scaling.batch_delay_ms)
    return options


def _said(options: RegisterOptions) -> dict[str, bool | int | str]:
    """What was asked for; what was not is left out, so that an earlier release can read it."""
    return {
        name: value
        for name, value in asdict(options).items()
        if value is not None and value is not False
    }
