"""`torchserve --start` and `--stop`, as TorchServe does them; see `torchserve --help`.

What is configured goes to tsd in `TSD_…` variables: they win over the configuration file, as
TorchServe's options do."""

import contextlib
import os
import signal
import subprocess
import sys
from argparse import Namespace
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import FrameType

from ts import __version__
from ts.arg_parser import ArgParser

from tsd.errors import ConfigError
from tsd.properties.translation import translate
from tsd_torchserve import pid_file

# It finds its modules where this command found them; a variable would reach the workers, too.
SERVER = """
import sys
sys.path[:] = sys.argv[1:]
del sys.argv[1:]
from tsd_torchserve.daemon import run
sys.exit(run())
"""
STOP_S = 60.0
LOGS = "logs"
WITHOUT_EFFECT = {
    "workflow_store": "TorchServe has removed workflows",
    "plugins_path": "Java plugins cannot be loaded",
    "log_config": "TSD_LOG_LEVEL and TSD_LOG_FORMAT set what is logged and how",
    "cpp_log_config": "there is no C++ backend",
}
"""Options that are accepted, and why they do nothing."""


class Refused(Exception):
    """The server is not started; the text says why."""


def main(words: Sequence[str] | None = None) -> int:
    """Do what the command line asks for; the exit status."""
    arguments = ArgParser.ts_parser().parse_args(words)
    pid = pid_file.read()
    if arguments.version:
        print(f"TorchServe Version is {__version__}")
        return 0
    if arguments.stop:
        return stop(pid, is_waiting=arguments.foreground)
    try:
        return start(arguments, pid)
    except Refused as refusal:
        print(refusal)
    except ConfigError as error:
        print(f"Invalid configuration: {error}")
    return 1


def stop(pid: int | None, *, is_waiting: bool) -> int:
    """End the server; where `is_waiting`, return when it has ended."""
    if pid is None:
        print("TorchServe is not currently running.")
        return 0
    try:
        has_ended = pid_file.terminate(pid, STOP_S if is_waiting else 0.0)
    except ProcessLookupError:
        print("TorchServe already stopped.")
        has_ended = True
    except PermissionError:
        print(f"TorchServe is another user's: process {pid} cannot be stopped.")
        return 1
    # In a folder that nobody may write to there is none.
    with contextlib.suppress(OSError):
        Path("key_file.json").unlink()
    if not is_waiting:
        print("TorchServe has stopped.")
    elif not has_ended:
        print("Stopping TorchServe took too long.")
    pid_file.remove()
    return 0


def start(arguments: Namespace, pid: int | None) -> int:
    """Start the server, and with --foreground stay until it has ended."""
    if pid is not None:
        raise Refused(
            "TorchServe is already running, please use torchserve --stop to stop TorchServe."
        )
    variables = os.environ | settings(arguments, os.environ)
    warn(arguments)
    if "LOG_LOCATION" not in variables:
        print("Warning: there are no log files: this folder cannot be written to.", flush=True)
    server = subprocess.Popen(
        [sys.executable, "-P", "-c", SERVER, *sys.path], stderr=subprocess.STDOUT, env=variables
    )
    pid_file.write(server.pid)
    return wait_for(server) if arguments.foreground else 0


def settings(arguments: Namespace, environment: Mapping[str, str]) -> dict[str, str]:
    """What the options say, as variables for tsd. Raises Refused."""
    temp = environment.get("TEMP")
    if temp and not Path(temp).is_dir():
        raise Refused(f"Invalid temp directory: {temp}, please check TEMP environment variable.")
    logs = environment.get("LOG_LOCATION") or LOGS
    snapshots = None if arguments.no_config_snapshots else Path(logs, "config").absolute()
    named = environment.get("TS_CONFIG_FILE") or arguments.ts_config
    if named and not Path(named).is_file():
        raise Refused(f"--ts-config file not found: {named}")
    models = arguments.models or []
    if any(model.lower().endswith(".war") for model in models):
        raise Refused("Workflows (.war) are not served: TorchServe has removed them.")
    said = {
        "TSD_CONFIG": environment.get("TSD_CONFIG") or os.devnull,
        "TSD_TS_CONFIG": str(named or unnamed_configuration(snapshots)),
        "TSD_PYTHON": environment.get("TSD_PYTHON") or sys.executable,
        "TSD_MODEL_STORE": model_store(arguments.model_store, named, environment),
        "TSD_MODELS": ",".join(models),
        "TSD_ACCESS_TOKENS": "false" if arguments.token_auth else "",
        "TSD_ACCESS_MODEL_API": "true" if arguments.model_mode else "",
        "TSD_TORCHSERVE_SNAPSHOT_DIR": str(snapshots or ""),
        "LOG_LOCATION": environment.get("LOG_LOCATION") or usual_logs(),
        "METRICS_LOCATION": environment.get("METRICS_LOCATION") or usual_logs(),
    }
    return {name: value for name, value in said.items() if value}


def usual_logs() -> str:
    """The folder of log files, where none is named; where it cannot be, TorchServe has none."""
    return LOGS if os.access(LOGS if Path(LOGS).exists() else ".", os.W_OK) else ""


def unnamed_configuration(snapshots: Path | None) -> Path:
    """The last snapshot, else config.properties of this folder, else nothing: all defaults."""
    kept = sorted(snapshots.glob("[0-9]*.cfg")) if snapshots else []
    usual = Path("config.properties")
    return kept[-1] if kept else usual if usual.is_file() else Path(os.devnull)


def model_store(option: str | None, config: str | None, environment: Mapping[str, str]) -> str:
    """The folder of archives, which has to be there."""
    said = translate(Path(config), environment).properties if config else {}
    store = option or said.get("model_store")
    if not store:
        raise Refused("Missing mandatory parameter --model-store")
    if not Path(store).is_dir():
        raise Refused(f"--model-store directory not found: {store}")
    return store


def warn(arguments: Namespace) -> None:
    """Name the options that do nothing. Raises Refused where one names what is not there."""
    for name, reason in WITHOUT_EFFECT.items():
        value = getattr(arguments, name)
        if not value:
            continue
        option = f"--{name.replace('_', '-')}"
        kind = "file" if name.endswith("config") else "directory"
        if name != "plugins_path" and not Path(value).exists():
            raise Refused(f"{option} {kind} not found: {os.path.realpath(value)}")
        print(f"Warning: {option} has no effect: {reason}.", flush=True)


def wait_for(server: subprocess.Popen[bytes]) -> int:
    """Return when the server has ended; asked to end, ask it."""

    def ask(_number: int, _frame: FrameType | None) -> None:
        server.terminate()

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, ask)
    status = server.wait()
    pid_file.remove()
    return status
