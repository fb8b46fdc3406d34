"""What is to be measured, as the command line asks for it."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass

from benchmarks.workloads import Workload, all_workloads

FIGURES = "figures"
GROWTH = "growth"
OTHERS = (FIGURES, GROWTH)
QUICK = (1, 2, 4, 8, 16, 64)


@dataclass(frozen=True)
class Plan:
    """How much is measured. `concurrencies`: those of a workload's own that are wanted, or all."""

    workloads: tuple[Workload, ...]
    rounds: int
    seconds: int
    concurrencies: tuple[int, ...] = ()
    has_figures: bool = True
    has_growth: bool = True

    def of(self, workload: Workload) -> list[int]:
        """At how many connections the workload is measured."""
        wanted = self.concurrencies or workload.concurrencies
        return [number for number in workload.concurrencies if number in wanted]


def plan_of(words: Sequence[str]) -> Plan:
    """What the command line asks for; ends the program where that cannot be."""
    parser = _parser()
    given = parser.parse_args(words)
    rounds, seconds = (1, 1) if given.quick else (5, 2)
    known = all_workloads()
    names = given.only or (*known, *OTHERS)
    if unknown := set(names) - {*known, *OTHERS}:
        parser.error(f"there is no {', '.join(sorted(unknown))}: {', '.join([*known, *OTHERS])}")
    plan = Plan(
        tuple(known[name] for name in known if name in names),
        given.rounds or rounds,
        given.seconds or seconds,
        given.concurrency or (QUICK if given.quick else ()),
        has_figures=FIGURES in names,
        has_growth=GROWTH in names,
    )
    for workload in plan.workloads:
        if given.only and not plan.of(workload):
            parser.error(f"{workload.name} is measured at {workload.concurrencies} connections")
    return plan


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks",
        description="What tsd costs beside a bare server, beside the model itself, beside recv.",
    )
    about = "1 round of 1 s, instead of 5 of 2 s; without 256 connections"
    parser.add_argument("--quick", action="store_true", help=about)
    parser.add_argument("--rounds", type=_positive, help="how often each target is asked")
    parser.add_argument("--seconds", type=_positive, help="how long; slow models take longer")
    names = ", ".join([*all_workloads(), *OTHERS])
    parser.add_argument("--only", type=_words, metavar="NAME,…", help=names)
    about = "of those that each workload has: 1, 16, 64, 256 as a rule"
    parser.add_argument("--concurrency", type=_numbers, metavar="N,…", help=about)
    return parser


def _positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"{number} is less than 1")
    return number


def _words(text: str) -> tuple[str, ...]:
    return tuple(text.split(","))


def _numbers(text: str) -> tuple[int, ...]:
    return tuple(_positive(word) for word in _words(text))
