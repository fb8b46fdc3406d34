"""One daemon for the tests that leave it as they found it; others start their own."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.archives import make_archive
from tests.support.daemon import RunningDaemon, running


@pytest.fixture(scope="session")
def shared_daemon(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningDaemon]:
    """A daemon that many tests use, with the model `echo` on one worker."""
    folder = tmp_path_factory.mktemp("shared")
    with running(folder, "--management", "127.0.0.1:0") as daemon:
        daemon.register(make_archive(folder), initial_workers=1)
        yield daemon


@pytest.fixture
def daemon(tmp_path: Path) -> Iterator[RunningDaemon]:
    """A daemon of the test's own."""
    with running(tmp_path) as own:
        yield own
