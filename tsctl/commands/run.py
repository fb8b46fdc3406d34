"""tsctl run: a model from nothing to an answer: registered if it is not, then sent one input.

`demo` is the model that comes with tsd, with an input of its own."""

from __future__ import annotations

import json
import tempfile
import time
from argparse import Namespace
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tsctl.client import NDJSON, Client, Request, target
from tsctl.commands.change import watch
from tsctl.commands.predict import content_type, readable
from tsctl.console import Console
from tsctl.failure import Failure, Status

DEMO = "demo"
INSTALLED = Path("/usr/share/tsd/demo")
# In a checkout the parts lie there, and the archive is packed when it is needed.
EXAMPLE = Path(__file__).parents[2] / "examples" / "digits"


def run(arguments: Namespace, client: Client, console: Console) -> None:
    name = model_name(arguments.model)
    if name not in registered(client):
        with archive_of(arguments.model) as archive:
            register(archive, name, client, console)
    path = input_of(arguments.model, arguments.file)
    began_at = time.monotonic()
    headers = {"Content-Type": content_type(path, None)}
    request = Request("POST", target("predictions", name), headers, _read(path))
    with client.ask(request) as answer:
        body = answer.read()
    show(name, path, body, time.monotonic() - began_at, console)


def model_name(word: str) -> str:
    """What a model is called, or will be: an archive's is that of its file."""
    return Path(word).name.partition(".")[0] if _is_path(word) else word


def registered(client: Client) -> set[str]:
    return {model["name"] for model in client.fetch("/tsd/models").get("models") or []}


@contextmanager
def archive_of(word: str) -> Iterator[Path]:
    """The archive to register, for as long as it is needed."""
    if _is_path(word):
        yield Path(word).absolute()
    elif word == DEMO and (INSTALLED / "digits.mar").exists():
        yield INSTALLED / "digits.mar"
    elif word == DEMO and EXAMPLE.is_dir():
        with tempfile.TemporaryDirectory() as folder:
            yield _packed(Path(folder))
    else:
        what = "the demo model is not installed" if word == DEMO else f"there is no model {word}"
        fix = "`tsctl list` shows the models; or name an archive: a path with a / or a dot"
        raise Failure(Status.NOT_FOUND, what, "it is neither registered nor a file here", fix)


def input_of(word: str, file: str | None) -> str:
    """The file that is named, else the demo's own."""
    if file is not None:
        return file
    samples = [INSTALLED / "3.png", EXAMPLE / "images" / "0003_3.png"] if word == DEMO else []
    for sample in samples:
        if sample.exists():
            return str(sample)
    why = "only the demo brings an input along"
    raise Failure(Status.USAGE, "there is nothing to send", why, f"tsctl run {word} FILE")


def register(archive: Path, name: str, client: Client, console: Console) -> None:
    """Have it served by one worker; returns when it is ready."""
    asked = {"url": str(archive), "model_name": name, "initial_workers": 1, "synchronous": True}
    with client.ask(Request("POST", target("models", **asked), {"Accept": NDJSON})) as answer:
        watch(answer, console)
    if not console.is_json:
        console.confirm(f"model {name} is registered")


def show(name: str, path: str, body: bytes, seconds: float, console: Console) -> None:
    """The answer, and where it came from."""
    milliseconds = round(1000 * seconds, 1)
    if console.is_json:
        said = {"model": name, "input": path, "elapsed_ms": milliseconds, "answer": _value(body)}
        console.show_json(said)
        return
    console.confirm(f"{name} answered to {path} in {milliseconds} ms:")
    console.show([readable(body)])


def _is_path(word: str) -> bool:
    return "/" in word or Path(word).is_file()


def _read(path: str) -> bytes:
    if path == "-":
        import sys

        return sys.stdin.buffer.read()
    return Path(path).read_bytes()


def _value(body: bytes) -> object:
    try:
        return json.loads(body)
    except ValueError:
        return body.decode("utf-8", "replace")


def _packed(folder: Path) -> Path:
    from tsctl.commands.pack import PackRequest, pack

    return pack(
        PackRequest(
            model_name="digits",
            handler=str(EXAMPLE / "handler.py"),
            serialized_file=EXAMPLE / "digits.pt",
            model_file=EXAMPLE / "model.py",
            config_file=EXAMPLE / "model-config.yaml",
            export_path=folder,
        )
    )
