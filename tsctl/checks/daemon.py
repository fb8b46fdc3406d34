"""What the daemon itself says: that it is there, its version, its models, its runtimes."""

from __future__ import annotations

from collections.abc import Callable

from tsctl.checks.finding import Finding, good, together, unseen, wrong
from tsctl.checks.gpu import cuda_of, driver_version
from tsctl.failure import Failure, Json, Status
from tsctl.format import duration, first_line
from tsctl.machine import ASLEEP, Machine
from tsctl.version import installed_version

HEALTHY = ("ready", "starting")
SILENT = unseen("asked of the daemon, which does not answer")
ADD_RUNTIME = "sudo tsctl runtime create auto; or, for one that is there: tsctl runtime add PATH"


def daemon(machine: Machine) -> Finding:
    status = machine.status
    if not isinstance(status, Failure):
        return _running(status)
    if status.why == ASLEEP:
        return good(f"{status.what}: {status.why}")
    if status.status is Status.NOT_PERMITTED:
        return unseen(status.what, status.fix)
    return wrong(f"{status.what}: {status.why}", _start(machine))


def _running(status: Json) -> Finding:
    state = str(status.get("state"))
    text = f"tsd {status.get('version')} is {state} for {duration(status.get('uptime_s'))}"
    if state in HEALTHY:
        return good(f"{text}, process {status.get('pid')}")
    return wrong(text, "tsctl logs")


def _start(machine: Machine) -> str:
    if not machine.unit:
        return "start it: tsd; or, where it runs, name its socket: tsctl --socket PATH doctor"
    return f"journalctl -u tsd -n 50 tells why; {machine.systemctl_words} restart tsd"


def _asked(check: Callable[[Machine, Json], Finding]) -> Callable[[Machine], Finding]:
    """A check of what the daemon said; without its word there is nothing to check."""

    def run(machine: Machine) -> Finding:
        status = machine.status
        return SILENT if isinstance(status, Failure) else check(machine, status)

    return run


@_asked
def versions(machine: Machine, status: Json) -> Finding:
    own, running = installed_version(), status.get("version")
    if own == running:
        return good(f"daemon and tsctl are {own}")
    text = f"the daemon is {running}, tsctl is {own}"
    return wrong(text, f"{machine.systemctl_words} restart tsd")


@_asked
def models(_: Machine, status: Json) -> Finding:
    rows = status.get("models") or []
    failed = [row for row in rows if row.get("state") == "failed"]
    if not failed:
        return good(f"{len(rows)} registered, none failed")
    return together([_failed(row) for row in failed])


def _failed(row: Json) -> Finding:
    name, version = row.get("name"), row.get("version")
    text = f"{name} {version} failed: {first_line(row.get('last_error'))}"
    return wrong(text, f"tsctl describe {name} {version}")


@_asked
def runtime(machine: Machine, _: Json) -> Finding:
    answer = machine.ask("/tsd/runtimes")
    if isinstance(answer, Failure):
        return unseen(f"{answer.what}: {answer.why}", answer.fix)
    rows = answer.get("runtimes") or []
    if not rows:
        return wrong("there is none, so no model can be served", ADD_RUNTIME)
    return together([_runtime(machine, row) for row in rows])


def _runtime(machine: Machine, row: Json) -> Finding:
    name, torch = row.get("name"), (row.get("versions") or {}).get("torch")
    text = f"{name}: {row.get('python')}, torch {torch or 'unknown'}"
    if row.get("problem"):
        return wrong(f"{name}: {first_line(row['problem'])}", f"tsctl runtime check {name}")
    if not driver_version(machine):
        return good(text)
    if row.get("cuda_trouble"):
        return wrong(f"{text}: {first_line(row['cuda_trouble'])}", f"tsctl runtime check {name}")
    cuda = cuda_of(row)
    return good(f"{text}, CUDA {cuda}" if cuda else f"{text}, for the CPU only")
