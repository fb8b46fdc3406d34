"""The commands on runtimes: what they ask for, and how they show what was found."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import pytest

from tsctl.arguments import parse
from tsctl.client import Request
from tsctl.commands.run import model_name
from tsctl.commands.runtime import REQUESTS, found_lines, runtime_lines
from tsctl.console import Console

PLAIN = Console(io.StringIO(), io.StringIO())
CPU: dict[str, Any] = {
    "name": "cpu",
    "python": "/var/lib/tsd/runtimes/cpu/bin/python",
    "default": True,
    "versions": {"python": "3.12.3", "torch": "2.8.0", "pillow": "11.0"},
    "cuda": "",
    "cuda_trouble": "",
    "state": "ready",
    "problem": "",
    "models": ["digits/1.0"],
}
GPU: dict[str, Any] = {
    **CPU,
    "name": "gpu",
    "python": "/opt/gpu/bin/python",
    "default": False,
    "versions": {"python": "3.13.5", "torch": "2.9.0", "cuda": "13.0"},
    "cuda": "13.0",
    "cuda_trouble": "no \x1bdriver",
    "state": "exited",
    "problem": "the fork server ended with status 1",
    "models": [],
}


def request_of(words: str) -> Request:
    arguments = parse(words.split())
    return REQUESTS[arguments.verb](arguments)


@pytest.mark.parametrize(
    ("words", "method", "target", "body"),
    [
        ("runtime add /opt/env", "POST", "/tsd/runtimes", {"path": "/opt/env"}),
        (
            "runtime add --default /opt/env --name x",
            "POST",
            "/tsd/runtimes",
            {"path": "/opt/env", "name": "x", "default": True},
        ),
        ("runtime create", "POST", "/tsd/runtimes/create", {"kind": "auto"}),
        (
            "runtime create cu126 --torch 2.8.0 --python /usr/bin/python3.12"
            " --index-url http://x/{build} --wheels /srv/wheels",
            "POST",
            "/tsd/runtimes/create",
            {
                "kind": "cu126",
                "torch": "2.8.0",
                "python": "/usr/bin/python3.12",
                "index_url": "http://x/{build}",
                "wheels": "/srv/wheels",
            },
        ),
        ("runtime check x", "POST", "/tsd/runtimes/x/check", None),
        ("runtime set-default x", "PUT", "/tsd/runtimes/x/set-default", None),
        ("runtime remove x/y", "DELETE", "/tsd/runtimes/x%2Fy", None),
    ],
)
def test_each_verb_is_one_request(words: str, method: str, target: str, body: object) -> None:
    request = request_of(words)
    assert (request.method, request.target) == (method, target)
    assert (json.loads(request.body) if request.body else None) == body


def test_paths_that_are_here_go_whole_and_programs_by_where_they_are(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "python9").write_text("")
    (tmp_path / "python9").chmod(0o755)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert json.loads(request_of("runtime add env").body)["path"] == str(tmp_path / "env")
    created = json.loads(request_of("runtime create --python python9 --wheels w").body)
    assert (created["python"], created["wheels"]) == (f"{tmp_path}/python9", f"{tmp_path}/w")


def test_runtimes_are_a_table_with_what_is_wrong_below() -> None:
    assert "\n".join(runtime_lines([CPU, GPU], PLAIN)) == (
        "RUNTIME  DEFAULT  PYTHON  TORCH               CUDA  STATE   MODELS  PATH\n"
        "cpu      *        3.12.3  2.8.0                  -  ready        1"
        "  /var/lib/tsd/runtimes/cpu/bin/python\n"
        "gpu               3.13.5  2.9.0  13.0 (not usable)  exited       0"
        "  /opt/gpu/bin/python\n"
        "gpu: the fork server ended with status 1"
    )
    assert "tsctl runtime create" in runtime_lines([], PLAIN)[0]


def test_what_was_found_is_said_and_what_is_missing() -> None:
    assert found_lines(CPU)[1:] == ["  python 3.12.3, torch 2.8.0, pillow 11.0"]
    assert found_lines(GPU)[1:] == [
        "  python 3.13.5, torch 2.9.0, cuda 13.0",
        "  CUDA cannot be used: no \\x1bdriver",
        "  no pillow there: handlers of images will not work",
    ]


def test_a_model_is_called_as_its_archive(tmp_path: Path) -> None:
    assert model_name("demo") == "demo"
    assert model_name("/srv/store/digits.mar") == "digits"
    assert model_name("./other.tar.gz") == "other"
