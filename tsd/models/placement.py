"""What a model's file says of where its workers run: on which devices, in how many processes.

As in TorchServe, a value that makes no sense is warned of and counts as not said."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from tsd.errors import InvalidArchive
from tsd.log import get_logger

DEVICE_TYPES = ("cpu", "gpu")
# Divided by the library that the handler uses, in one process; or by the handler, in several.
IN_ONE_PROCESS = "custom"
IN_RANKS = ("pp", "tp", "pptp")

log = get_logger()


@dataclass(frozen=True, slots=True)
class Parallel:
    """How one worker is divided: `level` GPUs, and where `kind` asks for it as many processes."""

    kind: str = ""
    level: int = 0
    # Of each process on the CPU; 0: not said.
    threads: int = 0

    @property
    def ranks(self) -> int:
        """The processes of one worker that find each other; 0: it is an ordinary one."""
        return self.level if self.kind in IN_RANKS else 0


def device_type(model_yaml: Mapping[str, Any]) -> str:
    """`cpu` or `gpu` where the file asks for one."""
    return _one_of(model_yaml, "deviceType", DEVICE_TYPES)


def device_ids(model_yaml: Mapping[str, Any]) -> tuple[int, ...]:
    """The GPUs that the file names; none where one of them is no number."""
    named = model_yaml.get("deviceIds")
    if named is None:
        return ()
    if not isinstance(named, list) or any(type(number) is not int for number in named):
        _ignored("deviceIds", named, "a list of whole numbers")
        return ()
    return tuple(named)


def parallel(model_yaml: Mapping[str, Any]) -> Parallel:
    """How the file divides a worker. Raises InvalidArchive for what more machines would need."""
    kind = _one_of(model_yaml, "parallelType", (IN_ONE_PROCESS, *IN_RANKS))
    torchrun = model_yaml.get("torchrun", {})
    if not isinstance(torchrun, dict):
        _ignored("torchrun", torchrun, "a mapping")
        torchrun = {}
    level = _number(torchrun, "nproc-per-node") if torchrun else 0
    level = level or (1 if torchrun else _number(model_yaml, "parallelLevel"))
    if not kind or not level:
        return Parallel()
    if kind in IN_RANKS and _number(torchrun, "nnodes") > 1:
        raise InvalidArchive(
            "torchrun.nnodes is more than 1: a worker runs on one machine.",
            fix="set nnodes: 1, and nproc-per-node to the GPUs of this machine",
        )
    return Parallel(kind, level, _number(torchrun, "OMP_NUMBER_THREADS"))


def check_parallel(asked: Parallel, mode: str, most_ranks: int) -> None:
    """Raise InvalidArchive where the ranks of a worker could not act together."""
    if asked.ranks > most_ranks:
        raise InvalidArchive(
            f"A worker of {asked.ranks} processes is more than this daemon allows.",
            why=f"serving.max_workers is {most_ranks}",
            fix="raise serving.max_workers, or ask for fewer",
        )
    if asked.ranks and mode != "batch":
        # Jobs come and go there while others run: ranks would see them at different steps.
        raise InvalidArchive(
            f"parallelType {asked.kind} does not go with continuousBatching or asyncCommunication.",
            fix="leave that out, or use parallelType: custom",
        )


def _one_of(said: Mapping[str, Any], key: str, choices: tuple[str, ...]) -> str:
    value = said.get(key)
    if value in (None, ""):
        return ""
    if isinstance(value, str) and value.lower() in choices:
        return value.lower()
    _ignored(key, value, f"one of {', '.join(choices)}")
    return ""


def _number(said: Mapping[str, Any], key: str) -> int:
    """A positive whole number; 0 where there is none."""
    value = said.get(key)
    if type(value) is int and value > 0:
        return value
    if value is not None:
        _ignored(key, value, "a whole number above 0")
    return 0


def _ignored(key: str, value: object, wanted: str) -> None:
    log.warning("%s: %.100r is ignored, it should be %s", key, value, wanted)
