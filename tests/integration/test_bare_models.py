"""A bare model file needs no handler: tensors in, tensors out."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from tests.support.daemon import RunningDaemon


class Scaled(torch.nn.Module):
    """Something small whose answers are easy to know."""

    def __init__(self) -> None:
        super().__init__()
        self.factor = torch.nn.Parameter(torch.tensor([1.0, 10.0, 100.0]))

    def forward(self, rows: torch.Tensor) -> torch.Tensor:
        """Columns times 1, 10 and 100."""
        return rows * self.factor


def ask(daemon: RunningDaemon, name: str, rows: object) -> object:
    headers = {"Content-Type": "application/json"}
    answer = daemon.call("POST", f"/predictions/{name}", json.dumps(rows).encode(), headers)
    assert answer.status == 200, answer.body
    return answer.json()


# TorchScript is what users have; that torch would rather they had something else is known.
@pytest.mark.filterwarnings("ignore:`torch.jit:DeprecationWarning")
def test_a_torchscript_file_is_served(daemon: RunningDaemon, tmp_path: Path) -> None:
    torch.jit.script(Scaled()).save(str(tmp_path / "scaled.pt"))  # type: ignore[no-untyped-call]
    daemon.register(tmp_path / "scaled.pt", initial_workers=1)
    assert ask(daemon, "scaled", {"inputs": [[1, 2, 3]]}) == [[1.0, 20.0, 300.0]]


def test_an_exported_program_is_served(daemon: RunningDaemon, tmp_path: Path) -> None:
    shapes = {"rows": {0: torch.export.Dim("batch", min=1, max=64)}}
    program = torch.export.export(Scaled(), (torch.ones(2, 3),), dynamic_shapes=shapes)
    torch.export.save(program, tmp_path / "exported.pt2")
    daemon.register(tmp_path / "exported.pt2", initial_workers=1)
    assert ask(daemon, "exported", [[1, 1, 1], [2, 2, 2]]) == [[1, 10, 100], [2, 20, 200]]
    bad = daemon.call("POST", "/predictions/exported", b"[[1, 2]", {"Content-Type": "text/plain"})
    assert bad.status == 400
