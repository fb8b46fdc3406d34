"""tsctl runtime: the interpreters that run models: list, add, create, check, remove.

The daemon does the work, as its own user in its own sandbox: what it finds there is what counts."""

from __future__ import annotations

import json
import shutil
from argparse import Namespace
from collections.abc import Callable
from pathlib import Path

from tsctl.client import ANSWER_TIMEOUT_S, NDJSON, Client, Request, target
from tsctl.commands.change import confirmation, watch
from tsctl.console import Console
from tsctl.failure import Failure, Json, Status
from tsctl.format import cell, table

HEADINGS = ("RUNTIME", "DEFAULT", "PYTHON", "TORCH", "CUDA", "STATE", "MODELS", "PATH")
NO_RUNTIMES = "no runtime; `tsctl runtime add PATH` or `tsctl runtime create` gives the daemon one"


def run(arguments: Namespace, client: Client, console: Console) -> None:
    if arguments.verb == "list":
        _show_list(client.fetch("/tsd/runtimes"), console)
        return
    try:
        with client.ask(REQUESTS[arguments.verb](arguments)) as answer:
            document = watch(answer, console)
    except KeyboardInterrupt:
        raise _interrupted(arguments.verb) from None
    if console.is_json:
        console.show_json(document)
        return
    console.confirm(confirmation(document))
    if "runtime" in document and not console.is_quiet:
        console.show(found_lines(document["runtime"]))


def add_request(arguments: Namespace) -> Request:
    # Not resolved: an environment's interpreter is a link, and knows by it where it belongs.
    path = str(Path(arguments.path).absolute())
    return _post({"path": path, **_options(arguments)}, "tsd", "runtimes")


def create_request(arguments: Namespace) -> Request:
    asked = {
        "kind": arguments.kind,
        "torch": arguments.torch,
        "python": arguments.python and _program(arguments.python),
        "index_url": arguments.index_url,
        "wheels": arguments.wheels and str(Path(arguments.wheels).absolute()),
        **_options(arguments),
    }
    return _post(asked, "tsd", "runtimes", "create")


def check_request(arguments: Namespace) -> Request:
    return Request("POST", target("tsd", "runtimes", arguments.name, "check"))


def set_default_request(arguments: Namespace) -> Request:
    path = target("tsd", "runtimes", arguments.name, "set-default")
    return Request("PUT", path, timeout_s=ANSWER_TIMEOUT_S)


def remove_request(arguments: Namespace) -> Request:
    return Request("DELETE", target("tsd", "runtimes", arguments.name))


REQUESTS: dict[str, Callable[[Namespace], Request]] = {
    "add": add_request,
    "create": create_request,
    "check": check_request,
    "set-default": set_default_request,
    "remove": remove_request,
}


def _options(arguments: Namespace) -> Json:
    return {"name": arguments.name, "default": arguments.default or None}


def _post(asked: Json, *segments: str) -> Request:
    said = {name: value for name, value in asked.items() if value is not None}
    body = json.dumps(said).encode("utf-8", "surrogatepass")
    headers = {"Accept": NDJSON, "Content-Type": "application/json"}
    return Request("POST", target(*segments), headers, body)


def _program(word: str) -> str:
    """A program by its path, or by its name where the shell would find it."""
    return str(Path(shutil.which(word) or word).absolute())


def _show_list(document: Json, console: Console) -> None:
    if console.is_json:
        console.show_json(document)
    else:
        console.show(runtime_lines(document.get("runtimes") or [], console))


def runtime_lines(runtimes: list[Json], console: Console) -> list[str]:
    """A table, and below it what is wrong with one of them."""
    if not runtimes:
        return [NO_RUNTIMES]
    heading, *lines = table(HEADINGS, map(_row, runtimes))
    wrong = [f"{cell(r.get('name'))}: {cell(r['problem'])}" for r in runtimes if r.get("problem")]
    return [console.colour(heading, "bold"), *lines, *(console.colour(w, "red") for w in wrong)]


def _row(runtime: Json) -> list[str]:
    versions = runtime.get("versions") or {}
    return [
        cell(runtime.get("name")),
        "*" if runtime.get("default") else "",
        cell(versions.get("python")),
        cell(versions.get("torch")),
        _cuda(runtime),
        cell(runtime.get("state")),
        cell(len(runtime.get("models") or [])),
        cell(runtime.get("python")),
    ]


def _cuda(runtime: Json) -> str:
    if not runtime.get("cuda"):
        return "-"
    return f"{cell(runtime['cuda'])}{' (not usable)' if runtime.get('cuda_trouble') else ''}"


def found_lines(runtime: Json) -> list[str]:
    """What the check found, a line a thing that may matter."""
    versions = runtime.get("versions") or {}
    parts = [f"{cell(name)} {cell(version)}" for name, version in versions.items()]
    lines = [f"  {cell(runtime.get('python'))}", f"  {', '.join(parts)}"]
    if runtime.get("cuda_trouble"):
        lines.append(f"  CUDA cannot be used: {cell(runtime['cuda_trouble'])}")
    if "pillow" not in versions:
        lines.append("  no pillow there: handlers of images will not work")
    return lines


def _interrupted(verb: str) -> Failure:
    return Failure(
        Status.INTERRUPTED,
        f"no longer waiting for runtime {verb}",
        "interrupted from the keyboard; an environment that was being made is given up",
        "`tsctl runtime list` shows what there is",
    )
