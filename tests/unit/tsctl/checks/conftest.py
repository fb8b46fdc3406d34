"""A healthy machine, for a test to break."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.unit.tsctl.made_up import MadeUp, healthy


@pytest.fixture
def made_up(tmp_path: Path) -> MadeUp:
    return healthy(tmp_path)
