"""The manual pages name everything that there is, and nothing else.

Settings and their defaults are compared in test_config.py."""

from __future__ import annotations

import argparse
import ast
import re
import shutil
import subprocess
from collections.abc import Iterable, Iterator
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families
from ts.arg_parser import ArgParser

from tsctl.arguments import COMMANDS, build_parser
from tsctl.failure import Status
from tsd import __main__ as daemon
from tsd import errors, metrics, metrics_file, metrics_page
from tsd.config import SETTINGS
from tsd.properties import doors
from tsd.properties.keys import KEYS, READ_ELSEWHERE, WITHOUT_MEANING
from tsd.serving.model import MOVES

ROOT = Path(__file__).parents[2]
PAGES = {path.name: path.read_text() for path in sorted((ROOT / "man").iterdir())}
HELP = {"-h", "--help"}
GLOBAL = {"--socket", "--json", "-q", "--quiet", *HELP}


def part(page: str, heading: str) -> str:
    """What stands below a heading of a page."""
    return re.split(r"^\.S[hs] ", PAGES[page].partition(heading)[2], flags=re.MULTILINE)[0]


def items(text: str, macro: str) -> list[str]:
    """All words that the lists in a text explain, of one kind."""
    lines = re.findall(rf"^\.It {macro} (.+)$", text, re.MULTILINE)
    return [word for line in lines for word in re.split(rf" , (?:{macro} )?", line)]


def flags(text: str) -> set[str]:
    """All options that a text names."""
    return {f"-{name}" for name in re.findall(r"\bFl (-?[a-z][\w-]*)", text)}


def explained(text: str) -> set[str]:
    """The options that the lists in a text explain."""
    return flags("\n".join(re.findall(r"^\.It (Fl .+)$", text, re.MULTILINE)))


def options(parser: argparse.ArgumentParser) -> set[str]:
    """All options of a parser."""
    return {name for action in parser._actions for name in action.option_strings}  # noqa: SLF001


def commands(parser: argparse.ArgumentParser, path: str = "") -> dict[str, set[str]]:
    """The options of each command, and of each command below one."""
    found = {path: options(parser)}
    for action in parser._actions:  # noqa: SLF001
        if isinstance(action, argparse._SubParsersAction):  # noqa: SLF001
            del found[path]
            for name, below in action.choices.items():
                found |= commands(below, f"{path} {name}".strip())
    return found


def sources(*folders: str, but: str = "") -> Iterator[Path]:
    """The Python files of these folders."""
    for folder in folders:
        for path in (ROOT / folder).rglob("*.py"):
            if not (but and path.is_relative_to(ROOT / but)):
                yield path


# The pages themselves.


@pytest.mark.skipif(shutil.which("mandoc") is None, reason="mandoc is not installed")
@pytest.mark.parametrize("page", PAGES)
def test_mandoc_finds_no_fault(page: str) -> None:
    command = ["mandoc", "-T", "lint", "-W", "warning", str(ROOT / "man" / page)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.stdout + done.stderr, done.returncode) == ("", 0)


@pytest.mark.parametrize("page", PAGES)
def test_a_page_is_named_as_its_file_and_leads_to_pages_that_are_there(page: str) -> None:
    name, _, section = page.rpartition(".")
    assert f"\n.Dt {name.upper()} {section}\n" in PAGES[page]
    for told, number in re.findall(r"^\.Xr (\S+) (\d)", PAGES[page], re.MULTILINE):
        if re.match("tsd|tsctl|torchserve", told):
            assert f"{told}.{number}" in PAGES


@pytest.mark.parametrize("page", PAGES)
def test_a_page_names_settings_and_commands_that_there_are(page: str) -> None:
    settings = re.findall(r"\b(?:Va|,) ([a-z]+\.[a-z_]+)(?= |$)", PAGES[page], re.MULTILINE)
    assert set(settings) - set(SETTINGS) - {"context.metrics", "context.model_yaml_config"} == set()
    named = re.findall(r"(?:\b(?:Cm|Ic|Dl)|^\$) tsctl ([a-z-]+)", PAGES[page], re.MULTILINE)
    assert set(named) <= set(COMMANDS)


# Commands and options.


def test_the_daemons_options_are_in_its_page() -> None:
    there = options(daemon._parser())  # noqa: SLF001 (the parser that `tsd` has)
    assert explained(PAGES["tsd.8"]) == there
    assert flags(part("tsd.8", ".Sh SYNOPSIS")) == there - HELP


def test_the_options_of_the_command_torchserve_are_in_its_page() -> None:
    assert explained(PAGES["torchserve.1"]) == options(ArgParser.ts_parser())
    assert flags(PAGES["torchserve.1"]) == options(ArgParser.ts_parser())


COMMAND_ITEM = re.compile(r"^\.(?:It Xo\n\.)?(?:It )?Cm ([a-z -]+?)(?= (?:Ar|Op|Oo|Fl)\b|$)", re.M)


def command_entries() -> dict[str, str]:
    """Each command of tsctl with all that its page says about it."""
    text = PAGES["tsctl.1"]
    text = text[text.index(".Ss Models") : text.index(".Sh ENVIRONMENT")]
    text = re.sub(r"^\.Ss .*\n", "", text, flags=re.MULTILINE)
    entries = re.split(r"^(?=\.It (?:Xo$|Cm ))", text, flags=re.MULTILINE)[1:]
    found = {}
    for entry in entries:
        name = COMMAND_ITEM.match(entry)
        assert name, entry
        found[name[1].strip()] = entry
    return found


def test_every_command_is_in_the_page_with_its_options() -> None:
    there = commands(build_parser(COMMANDS))
    entries = command_entries()
    assert set(entries) == set(there)
    for name, entry in entries.items():
        assert flags(entry) == there[name] - GLOBAL, name


def test_the_options_of_all_commands_are_in_the_page() -> None:
    described = part("tsctl.1", ".Sh DESCRIPTION")
    assert explained(described) == options(build_parser())


# Exit statuses.


def statuses(page: str) -> list[int]:
    text = part(page, ".Sh EXIT STATUS")
    return [int(number) for number in re.findall(r"^\.It (\d+)$", text, re.MULTILINE)]


def test_every_exit_status_of_the_client_is_in_its_page() -> None:
    assert statuses("tsctl.1") == [int(status) for status in Status]


def test_every_exit_status_of_the_daemon_is_in_its_page() -> None:
    named = {value for name, value in vars(daemon).items() if name.startswith("EXIT_")}
    # Of the parser, and of an end that was asked for.
    assert statuses("tsd.8") == sorted(named | {0, 2})


def test_every_exit_status_of_the_command_torchserve_is_in_its_page() -> None:
    tree = ast.parse((ROOT / "torchserve" / "tsd_torchserve" / "command.py").read_text())
    returns = [node.value for node in ast.walk(tree) if isinstance(node, ast.Return)]
    values = {
        constant.value
        for value in returns
        if value and not isinstance(value, ast.Call)
        for constant in ast.walk(value)
        if isinstance(constant, ast.Constant) and type(constant.value) is int
    }
    assert statuses("torchserve.1") == sorted(values | {2})


# The environment.

READING = re.compile(
    r"""(?:environ|variables|environment)(?:\.get|\.setdefault)?[\[(]\s*"([A-Z][A-Z0-9_]+)"
    |_(?:service_directory|absolute)\(\w+,\s"([A-Z_]+)"\)
    |VISIBLE_GPUS\s=\s"([A-Z_]+)\"""",
    re.VERBOSE,
)
# What is given to others, or is theirs.
NOT_READ = {
    *("GRPC_ENABLE_FORK_SUPPORT", "GRPC_VERBOSITY", "GLOO_SOCKET_IFNAME"),
    *("TORCH_NCCL_ASYNC_ERROR_HANDLING", "VLLM_WORKER_MULTIPROC_METHOD"),
    *("LOCAL_RANK", "WORLD_SIZE"),
}
READERS = {
    "tsctl.1": (["tsctl"], ""),
    "tsd.8": (["tsd"], "tsd/worker"),
    "tsd-handler.7": (["tsd/worker"], ""),
    "torchserve.1": (["torchserve"], ""),
}


@pytest.mark.parametrize("page", READERS)
def test_the_environment_is_in_the_page(page: str) -> None:
    folders, but = READERS[page]
    text = "\n".join(path.read_text() for path in sources(*folders, but=but))
    read = {name for found in READING.findall(text) for name in found if name} - NOT_READ
    told = set(re.findall(r"\bEv ([A-Z][A-Z0-9_]+)$|\bEv ([A-Z][A-Z0-9_]+) ", PAGES[page], re.M))
    names = {name for pair in told for name in pair if name}
    names |= set(items(PAGES[page], "Ev")) - {"TSD_*", "TS_*"}
    assert read - names == set()
    known = "\n".join(path.read_text() for path in sources("tsd", *folders))
    assert {name for name in names if f'"{name}"' not in known} == set()


# What is logged and measured.


def codes() -> Iterator[str]:
    """What is logged as `code`, in a call or in fields that are joined to one."""
    for path in sources("tsd"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.keyword) and node.arg == "code":
                yield from values_of(node.value)
            elif isinstance(node, ast.Dict):
                for key, value in zip(node.keys, node.values, strict=True):
                    if isinstance(key, ast.Constant) and key.value == "code":
                        yield from values_of(value)


def values_of(code: ast.expr) -> Iterable[str]:
    """What the expression can be: a text, one of two, or a model's new state."""
    if isinstance(code, ast.JoinedStr):
        return {f"model_{new.value}" for moves in MOVES.values() for new in moves}
    if isinstance(code, ast.IfExp):
        return (*values_of(code.body), *values_of(code.orelse))
    text = code.value if isinstance(code, ast.Constant) else None
    # In capitals: the name of the journal's field.
    return [text] if isinstance(text, str) and text.islower() else []


def test_every_event_of_the_log_is_in_the_daemons_page() -> None:
    assert items(part("tsd.8", ".Ss Events"), "Cm") == sorted(set(codes()))


METRIC = re.compile(r"^\.It Cm (\w+) Pq (\w+)(?: in (\w+))?(?: : (.+))?$", re.MULTILINE)


def test_every_metric_is_in_the_page_with_its_kind_and_its_labels() -> None:
    told = {
        (name, kind, unit, frozenset(labels.split(" , ") if labels else ()))
        for name, kind, unit, labels in METRIC.findall(PAGES["tsd-metrics.7"])
    }
    declared = metrics_file.FRONTEND + metrics_file.MODEL
    assert told == set(own_metrics()) | {
        (one.name, one.kind, one.unit, frozenset(one.labels)) for one in declared
    }


def own_metrics() -> Iterator[tuple[str, str, str, frozenset[str]]]:
    """tsd's own, as the page for Prometheus has them."""
    figures = metrics.ModelFigures()
    figures.count_error("queue_full")
    one = metrics.ModelSnapshot("m", "1", figures, 0, {"idle": 1}, 0, is_ready=True, arena_bytes=0)
    one.gpu_bytes["1", "cuda:0", "allocated"] = 1
    for family in text_string_to_metric_families(metrics_page.page([one], 0).decode()):
        name = f"{family.name}_total" if family.type == "counter" else family.name
        yield name, family.type, "", frozenset(family.samples[0].labels) - {"le"}


def test_the_error_codes_of_the_page_are_errors() -> None:
    known = {
        error.code
        for error in vars(errors).values()
        if isinstance(error, type) and issubclass(error, errors.TsdError)
    }
    assert set(items(part("tsd-metrics.7", ".Ss Error codes"), "Cm")) <= known


# Files of others.


def test_every_key_of_a_models_configuration_is_in_its_page() -> None:
    text = "\n".join(path.read_text() for path in sources("tsd/models", "tsd/api", "tsd/worker"))
    wanted = (
        r'yaml(?:_config)?(?: or \{\}|, None\) or \{\})?\)?(?:\.get\(|\[)"([\w-]+)"',
        r'(?:choose\.\w+|self\.number)\(\s*"\w+",\s*"(\w+)"',
        r'_(?:one_of|number)\(\w+, "([\w-]+)"',
        r'_section\(ctx, "(\w+)"\)',
    )
    read = {key for pattern in wanted for key in re.findall(pattern, text)}
    page = PAGES["tsd-model-config.5"]
    told = set(items(page, "Va")) | set(re.findall(r"^\.Va ([\w-]+)", page, re.MULTILINE))
    assert read - told == set()
    assert {key for key in told if f'"{key}"' not in text} <= {"context.model_yaml_config"}


def test_every_key_of_config_properties_is_in_the_page_with_its_setting() -> None:
    text = part("tsd-torchserve.7", ".Ss Keys of config.properties")
    told = dict(re.findall(r"^\.It Va (\w+) Ta Va (\S+)$", text, re.MULTILINE))
    addresses = doors.HTTP_KEYS | {doors.METRICS_SWITCH: "doors.metrics"}
    addresses |= {key: door for door, keys in doors.GRPC_KEYS.items() for key in keys}
    assert told == addresses | {key: said.setting for key, said in KEYS.items()}
    named = re.findall(r"^\.Va (\w+)(?: [.,])?$", text, re.MULTILINE)
    assert sorted(named) == sorted([*WITHOUT_MEANING, *READ_ELSEWHERE])


@pytest.mark.parametrize(
    ("file", "name", "heading"),
    [
        ("context.py", "Context", ".Ss Context"),
        ("metrics/metric_cache_abstract.py", "MetricCacheAbstract", ".Ss Metrics"),
    ],
)
def test_what_handlers_are_offered_is_in_their_page(file: str, name: str, heading: str) -> None:
    tree = ast.parse((ROOT / "tsd" / "worker" / "ts" / file).read_text())
    (found,) = (n for n in tree.body if isinstance(n, ast.ClassDef) and n.name == name)
    methods = {m.name for m in found.body if isinstance(m, ast.FunctionDef) and is_method(m)}
    own = {"flush", "initialize_cache", "set_request_ids", "begin_batch"}
    told = re.findall(r"^\.It Fn (\w+)", part("tsd-handler.7", heading), re.MULTILINE)
    assert set(told) - own == methods - own


def is_method(function: ast.FunctionDef) -> bool:
    return not function.name.startswith("_") and not any(
        (isinstance(d, ast.Name) and d.id == "property")
        or (isinstance(d, ast.Attribute) and d.attr == "setter")
        for d in function.decorator_list
    )
