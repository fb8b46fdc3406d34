"""The `torchserve` command answers what a real TorchServe 0.12.0 answered to the same requests.

The requests and the answers are in tests/torchserve/cases; where another answer is meant, its
reason stands in deliberate.json."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.torchserve.replay import HERE, replay, sections
from tests.torchserve.server import running

COMMAND = f"{Path(sys.executable).parent}/torchserve"
LAUNCH = COMMAND + " --start --foreground --ncs --model-store {store} --ts-config {config}"
DELIBERATE: dict[str, str] = json.loads((HERE / "deliberate.json").read_text())
SECTIONS = sections()


@pytest.mark.parametrize("section", SECTIONS, ids=[section["section"] for section in SECTIONS])
def test_requests_are_answered_as_torchserve_did(section: dict[str, Any], tmp_path: Path) -> None:
    with running(section, LAUNCH, tmp_path) as server:
        verdicts = list(replay(section, server))
    wrong = {verdict.name: verdict.differences for verdict in verdicts if verdict.differences}
    meant = {verdict.name for verdict in verdicts if verdict.name in DELIBERATE}
    assert {name: wrong[name] for name in wrong if name not in meant} == {}
    assert meant - set(wrong) == set(), "these no longer differ: deliberate.json need not name them"


def test_deliberate_differences_name_cases_that_are_there() -> None:
    names = {f"{s['section']}/{step.get('label')}" for s in SECTIONS for step in s["steps"]}
    assert set(DELIBERATE) <= names
