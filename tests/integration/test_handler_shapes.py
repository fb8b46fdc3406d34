"""Handlers of every shape that TorchServe allows, in archives of the real torch-model-archiver."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from tests.support.archives import by_the_archiver
from tests.support.daemon import RunningDaemon, running

FUNCTION = """
calls = []
def {name}(data, context):
    calls.append(data)
    if data is None:
        return None
    return [f"first saw {{calls[0]}}: " + bytes(row["body"]).decode() for row in data]
"""
CLASS = """
import json
from pathlib import Path
class Own{base}:
    def initialize(self, context):
        self.folder = Path(context.system_properties["model_dir"])
        self.initialized = True
    def handle(self, data, context):
        return [type(self).__name__ + ": " + bytes(row["body"]).decode() for row in data]
"""
BASE = """
from ts.torch_handler.base_handler import BaseHandler
from words import GREETING
class Own(BaseHandler):
    def initialize(self, context):
        self.initialized = True
    def preprocess(self, data):
        return [bytes(row["body"]).decode() for row in data]
    def inference(self, data):
        return [f"{GREETING} {text}" for text in data]
    def postprocess(self, data):
        return data
"""
LEGACY = """
# As archives of TorchServe's predecessor: an instance in the module, and a function around it.
class Service:
    def initialize(self, context):
        self.is_ready = True
    def handle(self, data, context):
        return [bytes(row["body"]).decode() for row in data]
_service = Service()
def handle(data, context):
    if not hasattr(_service, "is_ready"):
        _service.initialize(context)
    return data and _service.handle(data, context)
"""


@dataclass(frozen=True)
class Shape:
    """What is given to the archiver, and what it makes of `hello`."""

    handler: str
    source: str
    answer: str
    files: dict[str, str] = field(default_factory=dict)


SHAPES = {
    "function": Shape("own.py", FUNCTION.format(name="handle"), "first saw None: hello"),
    "named": Shape("own:predict", FUNCTION.format(name="predict"), "first saw None: hello"),
    "class": Shape("own.py", CLASS.format(base=""), "Own: hello"),
    "object": Shape("own", CLASS.format(base="(object)"), "Own: hello"),
    "method": Shape("own:handle", CLASS.format(base=""), "Own: hello"),
    "folder": Shape("sub/own.py", CLASS.format(base=""), "Own: hello"),
    "base": Shape("own.py", BASE, "welcome hello", {"words.py": "GREETING = 'welcome'"}),
    "legacy": Shape("own.py", LEGACY, "hello"),
}


@pytest.fixture(scope="module")
def daemon(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningDaemon]:
    with running(tmp_path_factory.mktemp("shapes")) as own:
        yield own


@pytest.mark.parametrize("name", SHAPES)
def test_a_handler_of_that_shape_is_served(
    daemon: RunningDaemon, tmp_path: Path, name: str
) -> None:
    shape, sources = SHAPES[name], tmp_path / "sources"
    path = (sources / shape.handler.partition(":")[0]).with_suffix(".py")
    path.parent.mkdir(parents=True)
    path.write_text(shape.source)
    for file, text in shape.files.items():
        (sources / file).write_text(text)
    extra = ("--extra-files", ",".join(shape.files)) if shape.files else ()
    archive = by_the_archiver(sources, name, "--handler", shape.handler, *extra)
    daemon.register(archive, initial_workers=1)
    answer = daemon.call("POST", f"/predictions/{name}", b"hello")
    assert (answer.status, answer.body.decode()) == (200, shape.answer)
