"""Snapshots: a server that is started again is the one that was stopped."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from tests.support.archives import make_archive
from tests.support.daemon import wait_for
from tests.support.torchserve import ANY_PORT, TorchServe, is_alive, torchserve


def kinds(folder: Path) -> list[str]:
    names = sorted(path.name for path in (folder / "logs" / "config").iterdir())
    return [re.sub(r"^\d{17}-|\.cfg$", "", name) for name in names]


def described(server: TorchServe, name: str) -> list[dict[str, Any]]:
    members = ("modelVersion", "minWorkers", "maxWorkers", "batchSize", "modelUrl")
    status, body = server.call("GET", f"/models/{name}/all")
    assert status == 200, body
    versions = sorted(json.loads(body), key=lambda one: one["modelVersion"])
    return [{member: one[member] for member in members} for one in versions]


def test_a_server_comes_back_with_its_models_and_settings(tmp_path: Path) -> None:
    with torchserve(tmp_path) as server:
        (tmp_path / "config.properties").write_text(f"{ANY_PORT}\njob_queue_size=7\n")
        for version in ("1.0", "2.0"):
            archive = make_archive(tmp_path, config="minWorkers: 1", version=version)
            archive.rename(server.store / f"echo-{version}.mar")
        server.start("--disable-token-auth")
        assert kinds(tmp_path) == ["startup"]
        for version, options in (("1.0", "initial_workers=1&batch_size=3"), ("2.0", "")):
            status, body = server.call("POST", f"/models?url=echo-{version}.mar&{options}")
            assert status == 200, body
        scaled = "/models/echo/1.0?min_worker=2&max_worker=3&synchronous=true"
        assert server.call("PUT", scaled)[0] == 200
        assert server.call("PUT", "/models/echo/2.0/set-default")[0] == 200
        assert kinds(tmp_path) == ["startup", *["snapshot"] * 4]
        before = described(server, "echo")
        assert server.run("--stop", "--foreground") == 0
        assert kinds(tmp_path)[-1] == "shutdown"

        # Without a configuration that is named the last snapshot is it; the first one is not read.
        (tmp_path / "config.properties").write_text("inference_address=nonsense")
        server.start()
        assert described(server, "echo") == before
        assert [one["minWorkers"] for one in before] == [2, 0]
        (default,) = json.loads(server.call("GET", "/models/echo")[1])
        assert default["modelVersion"] == "2.0"
        assert default["jobQueueStatus"]["remainingCapacity"] == 7
        wait_for(lambda: server.call("POST", "/predictions/echo/1.0", b"hello") == (200, b"hello"))
        assert server.run("--stop", "--foreground") == 0


def test_a_snapshot_whose_archive_is_gone_stops_the_start(tmp_path: Path) -> None:
    with torchserve(tmp_path) as server:
        (tmp_path / "config.properties").write_text(ANY_PORT)
        make_archive(tmp_path).rename(server.store / "echo.mar")
        server.start("--models", "echo.mar")
        assert server.run("--stop", "--foreground") == 0
        (server.store / "echo.mar").unlink()
        assert server.run("--start", "--foreground", "--model-store", "store") != 0
        words = "Model archive file for model :echo, version :1.0 not found in model store"
        assert words in server.printed


def test_without_snapshots_none_are_written_or_read(tmp_path: Path) -> None:
    with torchserve(tmp_path) as server:
        (tmp_path / "config.properties").write_text(ANY_PORT)
        make_archive(tmp_path).rename(server.store / "echo.mar")
        server.start("--models", "echo.mar", "--ncs")
        assert server.run("--stop", "--foreground") == 0
        assert not (tmp_path / "logs" / "config").exists()
        pid = server.start("--ncs")
        assert json.loads(server.call("GET", "/models")[1])["models"] == []
        assert is_alive(pid)
