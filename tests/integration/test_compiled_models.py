"""Models compiled by torch: before they are ready, as their warmUp says, and right."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from tests.support.archives import make_archive
from tests.support.daemon import RunningDaemon, UnixConnection
from tsctl.commands.pack import PackRequest, pack

pytestmark = pytest.mark.skipif(shutil.which("g++") is None, reason="there is no C++ compiler")

# A busy machine takes long; nothing here depends on how long.
COMPILE_S = 300.0
# Answers with how many graphs were compiled: once it was ready, and up to now.
COMPILED = """
import torch
from torch._dynamo.utils import counters
from ts.torch_handler.base_handler import BaseHandler
class Handler(BaseHandler):
    def _load(self, model_dir, model):
        return torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.ReLU(), torch.nn.Linear(8, 2))
    def initialize(self, context):
        super().initialize(context)
        self.at_first = counters["stats"]["unique_graphs"]
    def preprocess(self, data):
        return torch.tensor([row["body"] for row in data])
    def postprocess(self, output):
        return [[len(row), self.at_first, counters["stats"]["unique_graphs"]] for row in output]
"""
SETTINGS = """
minWorkers: 1
maxWorkers: 1
batchSize: 1
startupTimeout: 300
pt2: {compile: {enable: True, backend: inductor, mode: default}}
warmUp: {shape: [4]}
"""


# In a process of its own: compiling leaves threads and processes behind.
PACKAGE = """
import sys, torch
class Tripled(torch.nn.Module):
    def forward(self, rows): return rows * 3 + 1
shapes = {"rows": {0: torch.export.Dim("batch", min=1, max=64)}}
program = torch.export.export(Tripled(), (torch.ones(2, 3),), dynamic_shapes=shapes)
torch._inductor.aoti_compile_and_package(program, package_path=sys.argv[1])
"""


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Machine code that AOTInductor made."""
    file = tmp_path_factory.mktemp("package") / "tripled.pt2"
    subprocess.run([sys.executable, "-c", PACKAGE, str(file)], check=True)
    return file


def ask(daemon: RunningDaemon, name: str, rows: object) -> Any:
    headers = {"Content-Type": "application/json"}
    answer = daemon.call("POST", f"/predictions/{name}", json.dumps(rows).encode(), headers)
    assert answer.status == 200, answer.body
    return answer.json()


def test_a_model_is_compiled_before_it_is_ready(daemon: RunningDaemon, tmp_path: Path) -> None:
    archive = make_archive(tmp_path, "compiled", COMPILED, SETTINGS)
    with closing(UnixConnection(daemon.control, COMPILE_S)) as connection:
        connection.request("POST", f"/models?url={archive}&initial_workers=1")
        assert connection.getresponse().status == 200
    length, at_first, now = ask(daemon, "compiled", [1.0, 2.0, 3.0, 4.0])
    assert (length, now) == (2, at_first)
    assert at_first > 0


def test_a_compiled_package_is_served(daemon: RunningDaemon, package: Path) -> None:
    daemon.register(package, initial_workers=1)
    assert ask(daemon, "tripled", [[1, 2, 3], [0, 0, 1]]) == [[4, 7, 10], [1, 1, 4]]
    assert ask(daemon, "tripled", [1, 1, 1]) == [4, 4, 4]


def test_a_package_is_loaded_without_the_compiler(
    daemon: RunningDaemon, package: Path, tmp_path: Path
) -> None:
    shutil.copy(package, tmp_path / "tripled.pt2")
    source = f"""
        import sys
        from pathlib import Path
        import torch
        from tsd.worker import weights
        model = weights.open_model(Path({str(tmp_path / "tripled.pt2")!r}), torch.device("cpu"))
        def handle(data, context):
            if data is None:
                return None
            wrong = 0
            try:
                model(rows=torch.ones(1, 3))
            except ValueError as error:
                wrong = str(error)
            return [[model(torch.ones(1, 3)).tolist(), "torch._inductor.ir" in sys.modules, wrong]]
    """
    daemon.register(make_archive(tmp_path, "direct", source), initial_workers=1)
    refusal = "the compiled model takes [] by name, not ['rows']"
    assert ask(daemon, "direct", [1]) == [[[4, 4, 4]], False, refusal]


def test_a_package_in_an_archive_has_settings(
    daemon: RunningDaemon, package: Path, tmp_path: Path
) -> None:
    config = tmp_path / "model-config.yaml"
    config.write_text("minWorkers: 1\nmaxWorkers: 1\nbatchSize: 8\nwarmUp: {shape: [3]}\n")
    request = PackRequest(
        model_name="packed",
        version="1.0",
        handler="tensor_handler",
        serialized_file=package,
        config_file=config,
        export_path=tmp_path,
    )
    daemon.register(pack(request))
    assert ask(daemon, "packed", [1, 2, 3]) == [4, 7, 10]
    description = daemon.call("GET", "/models/packed").json()
    assert description[0]["batchSize"] == 8
