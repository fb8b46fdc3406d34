"""The options of the command `torchserve`, and those that TorchServe gives its workers."""

from __future__ import annotations

import argparse
from collections.abc import Sequence


class ArgParser:
    """TorchServe's parsers, under its names."""

    @staticmethod
    def ts_parser() -> argparse.ArgumentParser:
        """The parser of the command line of `torchserve`."""
        parser = argparse.ArgumentParser(prog="torchserve", description="TorchServe, served by tsd")
        _add_verbs(parser)
        _add_files(parser)
        add = parser.add_argument
        add("--foreground", action="store_true", help="stay until the server has ended")
        add(
            *("--disable-token-auth", "--dt"),
            dest="token_auth",
            action="store_true",
            help="answer clients without a token",
        )
        add(
            "--enable-model-api",
            dest="model_mode",
            action="store_true",
            help="let clients register and unregister models",
        )
        return parser

    @staticmethod
    def model_service_worker_args() -> argparse.ArgumentParser:
        """The parser of a worker's command line; tsd's workers have none."""
        parser = argparse.ArgumentParser(prog="model-server-worker")
        parser.add_argument("--sock-type", required=True, choices=["unix", "tcp"])
        for option in ("--sock-name", "--host", "--port", "--metrics-config"):
            parser.add_argument(option)
        parser.add_argument("--async", dest="async_comm", action="store_true")
        return parser

    @staticmethod
    def extract_args(args: Sequence[str] | None = None) -> argparse.Namespace:
        """The options among these words, or among those of this process."""
        return ArgParser.ts_parser().parse_args(args or None)


def _add_verbs(parser: argparse.ArgumentParser) -> None:
    verbs = parser.add_mutually_exclusive_group()
    verbs.add_argument("-v", "--version", action="store_true", help="show the version")
    verbs.add_argument("--start", action="store_true", help="start the server (the default)")
    verbs.add_argument("--stop", action="store_true", help="stop the server")


def _add_files(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("--ts-config", metavar="FILE", help="the configuration, a config.properties")
    add("--model-store", metavar="FOLDER", help="where archives are")
    add("--workflow-store", metavar="FOLDER", help="accepted; there are no workflows")
    add(
        "--models",
        nargs="+",
        metavar="[NAME=]ARCHIVE",
        help="models to serve from the start, or `all` of the store",
    )
    add("--log-config", metavar="FILE", help="accepted; the log is tsd's")
    add("--cpp-log-config", metavar="FILE", help="accepted; there is no C++ backend")
    add(
        *("--no-config-snapshots", "--ncs"),
        action="store_true",
        help="neither write snapshots nor start from the last one",
    )
    add("--plugins-path", "--ppath", metavar="FOLDER", help="accepted; there are no plugins")
