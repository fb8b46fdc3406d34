"""The command `tsd`: arguments -> configuration -> daemon."""

from __future__ import annotations

import argparse
import asyncio
import faulthandler
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import msgspec
import uvloop

from tsd import journal, log, process, systemd
from tsd.config import OPTIONS, load, render
from tsd.daemon import Daemon
from tsd.errors import ConfigError, TsdError
from tsd.migration import migrate
from tsd.settings import Config
from tsd.version import own_version

EXIT_STARTUP, EXIT_CONFIG = 1, 78
# Nothing was asked for so long (exit_on_idle_s): the next connection is to start it again.
EXIT_IDLE = 79

HELP = {
    "--model-store": "the folder that archives come from",
    "--models": "models to serve from the start: NAME=ARCHIVE[,...] or all",
    "--runtime-dir": "where control.sock and http.sock are made",
    "--state-dir": "where the desired state is kept",
    "--python": "the interpreter that has torch",
    "--http": "ADDR:PORT for predictions, or none",
    "--management": "ADDR:PORT for the management API, or none",
    "--metrics": "ADDR:PORT for Prometheus, or none",
    "--grpc": "ADDR:PORT for predictions by gRPC, or none",
    "--grpc-management": "ADDR:PORT for managing models by gRPC, or none",
    "--log-level": "debug, info, warning, error or critical",
    "--exit-on-idle": "leave when nothing was asked for so long (30s, 10min, 1h); under systemd",
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the daemon; its exit status: see EXIT STATUS in tsd(8)."""
    try:
        return _run(vars(_parser().parse_args(arguments)))
    except TsdError as error:
        _print_error(error)
        return EXIT_CONFIG if isinstance(error, ConfigError) else EXIT_STARTUP


def _run(given: dict[str, Any]) -> int:
    if given["version"]:
        sys.stdout.write(f"tsd {own_version()}\n")
        return 0
    environment = systemd.environment()
    places = systemd.places(environment)
    if given["migrate"]:
        migration = migrate(Path(given["migrate"]), environment.variables, places)
        sys.stdout.write(msgspec.json.encode(migration).decode() + "\n")
        return 0
    loaded = load(given, environment.variables, places)
    for warning in loaded.warnings:
        sys.stderr.write(f"tsd: warning: {warning}\n")
    if given["print_config"]:
        sys.stdout.write(render(loaded) + "\n")
    if given["check_config"]:
        sys.stdout.write("tsd: the configuration is valid\n")
    if given["check_config"] or given["print_config"]:
        return 0
    return _serve(
        loaded.config, environment, lambda: load(given, environment.variables, places).config
    )


def _serve(config: Config, environment: systemd.Environment, reload: Callable[[], Config]) -> int:
    way = journal.find_journal(config.log.format, sys.stderr, environment.journal_stream)
    started = log.start(config.log, way, sys.stderr)
    process.set_title("tsd")
    # Of a loop that was stuck, the watchdog's SIGABRT leaves in the journal where.
    faulthandler.enable()

    async def run() -> bool:
        return await Daemon(config, environment, started, reload).run()

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return EXIT_IDLE if runner.run(run()) else 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="tsd", description="The PyTorch model server of this machine; see tsd(8)."
    )
    parser.add_argument("--version", action="store_true", help="say it and leave")
    parser.add_argument("--config", metavar="FILE", help="the configuration file (tsd.toml)")
    parser.add_argument("--ts-config", metavar="FILE", help="TorchServe's config.properties")
    for option in OPTIONS:
        parser.add_argument(option, help=HELP[option])
    parser.add_argument("--migrate", metavar="FILE", help="for `tsctl migrate`: translate one")
    parser.add_argument(
        "--check-config", action="store_true", help="read the configuration, say what is wrong"
    )
    parser.add_argument(
        "--print-config", action="store_true", help="print every value and where it came from"
    )
    return parser


def _print_error(error: TsdError) -> None:
    sys.stderr.write(f"tsd: {error}\n")
    for name, text in (("why", error.why), ("fix", error.fix)):
        if text:
            sys.stderr.write(f"  {name}: {text}\n")


if __name__ == "__main__":
    sys.exit(main())
