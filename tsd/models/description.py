"""ModelDescription: all settings of one version of a model, and where each came from.

Precedence is TorchServe's: for batch settings query > model yaml > configuration > default; the
yaml, once there is one, hides timeouts and worker counts given in the query."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import msgspec

from tsd.errors import BadRequest, InvalidArchive
from tsd.models import placement
from tsd.models.placement import Parallel
from tsd.runtimes.book import DEFAULT_WORDS
from tsd.settings import ServingSettings

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")
# Files that are a model without an archive.
BARE_SUFFIXES = (".pt", ".pt2")
MAX_YAML_BYTES = 262_144
MAX_HANDLER_SETTINGS_BYTES = 65_536
MAX_BATCH_SIZE = 1_024
MAX_FLOW_DEPTH = 100
FLOW = re.compile(r"[][{}]")
DEFAULT_SEQUENCE_IDLE_MS = 60_000

Presets = Callable[[str, str], Mapping[str, int]]
"""What the configuration says of a model and its version, by the names of model-config.yaml."""


@dataclass(frozen=True, slots=True)
class SequenceSettings:
    """Stateful sequences: how many, how many requests of each wait, when their places are free."""

    max_sequences: int
    queue_size: int
    idle_s: float
    # 0: as long as they are used.
    life_s: float


@dataclass(frozen=True, slots=True)
class ModelDescription:
    """One version of one model. Durations in seconds unless the name says milliseconds."""

    name: str
    version: str
    url: str
    model_dir: Path
    handler: str
    manifest: dict[str, Any]
    model_yaml: dict[str, Any]
    min_workers: int
    max_workers: int
    batch_size: int
    max_batch_delay_ms: int
    response_timeout_s: float
    startup_timeout_s: float
    client_timeout_ms: int
    queue_size: int
    device_type: str
    is_idempotent: bool
    # A runtime's name, or one of TorchServe's words, which mean the default one.
    runtime: str = "python"
    # The one that its own packages were installed for.
    pinned_runtime: str = ""
    # "batch", "continuous" or "async"; see ipc/arguments.py.
    mode: str = "batch"
    sequences: SequenceSettings | None = None
    is_stateful: bool = False
    needs_idle_worker: bool = False
    retry_window_s: float = 300.0
    device_ids: tuple[int, ...] = ()
    parallel: Parallel = field(default_factory=Parallel)
    # Folders of packages that the model brought along, for its workers.
    extra_paths: tuple[str, ...] = ()
    origins: dict[str, str] = field(default_factory=dict)

    @property
    def batch_delay_s(self) -> float:
        """How long a batch may wait to fill: only when somebody asked for a delay."""
        if self.origins["max_batch_delay_ms"] == "default":
            return 0.0
        return self.max_batch_delay_ms / 1000

    def rebatched(self, size: int | None, delay_ms: int | None) -> ModelDescription:
        """The same version with other limits of batches, as far as they are said."""
        asked = {"batch_size": size, "max_batch_delay_ms": delay_ms}
        said = [name for name, value in asked.items() if value is not None]
        return replace(
            self,
            batch_size=self.batch_size if size is None else size,
            max_batch_delay_ms=self.max_batch_delay_ms if delay_ms is None else delay_ms,
            origins=self.origins | dict.fromkeys(said, "request"),
        )

    @property
    def deadline_s(self) -> float | None:
        """The time for one request, where the model sets its own."""
        return self.client_timeout_ms / 1000 if self.client_timeout_ms else None


@dataclass(frozen=True, slots=True)
class ModelFiles:
    """An unpacked model: where it came from, where it lies, what it says of itself.

    `url` is set where the source was downloaded from one."""

    source: Path
    model_dir: Path
    manifest: dict[str, Any]
    model_yaml: dict[str, Any]
    url: str = ""


@dataclass(frozen=True, slots=True)
class RegisterOptions:
    """What a registration may ask for; None: not said. Names as in TorchServe's API."""

    model_name: str | None = None
    handler: str | None = None
    batch_size: int | None = None
    max_batch_delay: int | None = None
    response_timeout: int | None = None
    startup_timeout: int | None = None
    initial_workers: int | None = None
    runtime: str | None = None
    # These are of a snapshot: they win over what the model's own file says.
    wins: bool = False
    # The model's name where neither the request nor the archive gives it one.
    default_name: str | None = None


def check_name(name: str, what: str = "model name", option: str = "model_name=") -> str:
    """The name, if it is one; BadRequest otherwise."""
    if not NAME.fullmatch(name):
        raise BadRequest(
            f"Invalid {what}.",
            why=f"{name[:140]!r} is not 1 to 128 letters, digits, '.', '_' or '-'",
            fix=f"choose another one, with {option}",
        )
    return name


def read_model_yaml(path: Path) -> dict[str, Any]:
    """The model-config.yaml of an archive, bounded; {} when it is empty."""
    # Slow to import, and not needed to start.
    import yaml

    if path.stat().st_size > MAX_YAML_BYTES:
        raise InvalidArchive(f"The model configuration is larger than {MAX_YAML_BYTES} bytes.")
    try:
        text = path.read_text(encoding="utf-8")
        if _flow_depth(text) > MAX_FLOW_DEPTH:
            raise InvalidArchive("The model configuration is nested too deeply.")
        # An alias costs nothing here and multiplies when the settings are sent to a worker.
        if any(isinstance(event, yaml.AliasEvent) for event in yaml.parse(text, yaml.SafeLoader)):
            raise InvalidArchive("The model configuration uses YAML aliases.")
        parsed = yaml.safe_load(text)
        settings = msgspec.json.encode(parsed)
    # Beside its own errors yaml lets through those of the values that it makes, such as dates.
    except (yaml.YAMLError, ValueError, OverflowError, RecursionError, TypeError) as error:
        raise InvalidArchive(
            "The model configuration is not valid YAML.", why=str(error)
        ) from error
    if parsed is not None and not isinstance(parsed, dict):
        raise InvalidArchive("The model configuration is not a mapping.")
    if len(settings) > MAX_HANDLER_SETTINGS_BYTES:
        raise InvalidArchive(
            f"The model configuration holds more than {MAX_HANDLER_SETTINGS_BYTES} bytes."
        )
    # As JSON has it: dates become text, keys become strings; that is what the worker gets.
    return dict(msgspec.json.decode(settings) or {})


def _flow_depth(text: str) -> int:
    """How deep `[` and `{` go, at most: the parser's time grows with the square of it."""
    depth = deepest = 0
    for letter in FLOW.findall(text):
        depth += 1 if letter in "[{" else -1
        deepest = max(deepest, depth)
    return deepest


def describe(
    files: ModelFiles,
    options: RegisterOptions,
    defaults: ServingSettings,
    presets: Presets = lambda _name, _version: {},
) -> ModelDescription:
    """Join what the archive, the caller and the configuration say."""
    manifest, model_yaml = files.manifest, files.model_yaml
    model = manifest["model"]
    name = _name(model, options)
    version = check_name(str(model.get("modelVersion") or "1.0"), "model version")
    choose = _Chooser(options, model_yaml, presets(name, version), defaults)
    mode, parallel = _mode(model_yaml), placement.parallel(model_yaml)
    placement.check_parallel(parallel, mode, defaults.max_workers)
    workers = choose.workers()
    return ModelDescription(
        name=name,
        version=version,
        url=files.url or files.source.name,
        model_dir=files.model_dir,
        handler=choose.handler(files),
        manifest=manifest,
        model_yaml=model_yaml,
        min_workers=workers[0],
        max_workers=workers[1],
        batch_size=min(choose.batch("batch_size", "batchSize", 1), MAX_BATCH_SIZE),
        max_batch_delay_ms=choose.batch("max_batch_delay_ms", "maxBatchDelay", 100),
        response_timeout_s=choose.timeout("response_timeout_s", "responseTimeout"),
        startup_timeout_s=choose.timeout("startup_timeout_s", "startupTimeout"),
        client_timeout_ms=choose.number("client_timeout_ms", "clientTimeoutInMills", 0),
        queue_size=choose.number("queue_size", "jobQueueSize", defaults.queue_size),
        device_type=placement.device_type(model_yaml),
        is_idempotent=model_yaml.get("idempotent") is not False,
        runtime=choose.runtime(manifest),
        mode=mode,
        sequences=choose.sequences(),
        is_stateful=model_yaml.get("sequenceBatching") is True,
        needs_idle_worker=model_yaml.get("useJobTicket") is True,
        retry_window_s=choose.number("retry_window_s", "maxRetryTimeoutInSec", 300),
        device_ids=placement.device_ids(model_yaml),
        parallel=parallel,
        origins=choose.origins,
    )


def _name(model: dict[str, Any], options: RegisterOptions) -> str:
    """The caller's, else the manifest's, else the default one."""
    name = options.model_name or str(model.get("modelName") or "") or options.default_name
    if not name:
        raise InvalidArchive("Model name is not defined.", fix="give one, with model_name=NAME")
    return check_name(name)


def _mode(model_yaml: dict[str, Any]) -> str:
    """How jobs share a worker."""
    if model_yaml.get("continuousBatching") is True:
        return "continuous"
    return "async" if model_yaml.get("asyncCommunication") is True else "batch"


class _Chooser:
    """Picks each setting from where it is said, and notes where that was."""

    def __init__(
        self,
        options: RegisterOptions,
        model_yaml: dict[str, Any],
        preset: Mapping[str, int],
        defaults: ServingSettings,
    ) -> None:
        self.options = options
        self.yaml = model_yaml
        self.preset = preset
        self.defaults = defaults
        self.origins: dict[str, str] = {}

    def handler(self, files: ModelFiles) -> str:
        """What runs the model; a bare model file needs nothing."""
        asked, packed = self.options.handler, files.manifest["model"].get("handler")
        self.origins["handler"] = "request" if asked else "manifest" if packed else "default"
        chosen = str(asked or packed or "")
        if chosen or files.source.suffix in BARE_SUFFIXES:
            return chosen
        if not self.defaults.default_handler:
            raise InvalidArchive(
                "The archive names no handler.",
                fix="give one, with handler=, or set serving.default_handler",
            )
        return self.defaults.default_handler

    def runtime(self, manifest: Mapping[str, Any]) -> str:
        """The one that is named, else TorchServe's word for it."""
        asked, packed = self.options.runtime, self.yaml.get("runtime")
        if packed is not None and not (isinstance(packed, str) and NAME.fullmatch(packed)):
            raise InvalidArchive("The model configuration's runtime is no name.")
        for origin, said in (("request", asked), ("model-config.yaml", packed)):
            if said and said not in DEFAULT_WORDS:
                self.origins["runtime"] = origin
                return said
        self.origins["runtime"] = "default"
        return asked or str(manifest.get("runtime", DEFAULT_WORDS[0]))

    def number(self, name: str, key: str, default: int) -> int:
        """A positive whole number of the yaml; TorchServe ignores a wrong one, so does tsd."""
        for origin, said in (("model-config.yaml", self.yaml), ("configuration", self.preset)):
            value = said.get(key)
            if isinstance(value, int) and not isinstance(value, bool) and value > 0:
                self.origins[name] = origin
                return int(value)
        self.origins[name] = "default"
        return default

    def sequences(self) -> SequenceSettings | None:
        """The settings of stateful sequences, where the yaml says any."""
        idle_ms = self.number("sequence_idle_ms", "sequenceMaxIdleMSec", 0)
        if not (idle_ms or self.yaml.get("sequenceBatching") is True):
            return None
        return SequenceSettings(
            max_sequences=self.number("max_sequences", "maxNumSequence", 1),
            queue_size=self.number("sequence_queue_size", "maxSequenceJobQueueSize", 1),
            # Without a bound a sequence that nobody ends would hold its place for good.
            idle_s=(idle_ms or DEFAULT_SEQUENCE_IDLE_MS) / 1000,
            life_s=self.number("sequence_life_ms", "sequenceTimeoutMSec", 0) / 1000,
        )

    def batch(self, name: str, key: str, default: int) -> int:
        option = {
            "batchSize": self.options.batch_size,
            "maxBatchDelay": self.options.max_batch_delay,
        }
        asked = option[key]
        # To wait for no company at all is a choice; a batch of nothing is none.
        least = 0 if key == "maxBatchDelay" else 1
        if asked is not None and asked >= least:
            self.origins[name] = "request"
            return asked
        return self.number(name, key, default)

    def timeout(self, name: str, key: str) -> float:
        asked = {
            "responseTimeout": (self.options.response_timeout, self.defaults.response_timeout_s),
            "startupTimeout": (self.options.startup_timeout, self.defaults.startup_timeout_s),
        }
        option, default = asked[key]
        is_hidden = (self.yaml or key in self.preset) and not self.options.wins
        # Nothing starts in no time, and that is what who asks for it gets.
        least = 0 if key == "startupTimeout" else 1
        if not is_hidden and option is not None and option >= least:
            self.origins[name] = "request"
            return float(option)
        return float(self.number(name, key, int(default)))

    def workers(self) -> tuple[int, int]:
        """Least and most workers. The yaml counts when both numbers are there and fit."""
        least = self.number("min_workers", "minWorkers", 0)
        most = self.number("max_workers", "maxWorkers", 0)
        if not most >= least > 0:
            asked = self.options.initial_workers
            self.origins["min_workers"] = "default" if asked is None else "request"
            least = most = self.defaults.default_workers if asked is None else max(asked, 0)
        self.origins["max_workers"] = self.origins["min_workers"]
        limit = self.defaults.max_workers
        return min(least, limit), min(most, limit)
