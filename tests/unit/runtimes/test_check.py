"""What an interpreter's probe prints is judged by its form, and every refusal has its fix."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from tsd.errors import RuntimeRefused
from tsd.runtimes.check import interpreter_of, judged

PYTHON = Path("/opt/env/bin/python")
GOOD = {"python": "3.12.3", "abi": "cpython-312", "torch": "2.8.0", "packages": {"numpy": "2.1"}}


def words(**more: object) -> bytes:
    return json.dumps(GOOD | more).encode() + b"\n"


def test_the_last_line_of_its_form_counts() -> None:
    found = judged(PYTHON, b'a warning\n{"python": 3}\n' + words() + b"{at exit}\nmore\n")
    assert found.versions == {"python": "3.12.3", "torch": "2.8.0", "numpy": "2.1"}


def test_a_build_for_cuda_that_cannot_be_used_is_a_runtime_all_the_same() -> None:
    found = judged(PYTHON, words(cuda="12.6", cuda_trouble="no driver", packages={"orjson": ""}))
    assert found.versions == {"python": "3.12.3", "torch": "2.8.0", "cuda": "12.6"}
    assert found.cuda_trouble == "no driver"


@pytest.mark.parametrize(
    ("output", "why", "fix"),
    [
        (words(has_torch=False, torch="", trouble="No module"), "no torch", "-m pip install torch"),
        (words(trouble="OSError: libc10.so"), "libc10.so", "runtime create"),
        (b"Unknown option: -P\nusage: python\n", "older than Python 3.11", "3.11 or newer"),
        (b"Segmentation fault\n", "Segmentation fault", "as the daemon's user"),
        (b"", "it said nothing", "as the daemon's user"),
        (b'{"python": ["3"]}\n', "python", "as the daemon's user"),
        (b'{"x":' + b"[" * 60_000, "[[[", "as the daemon's user"),
    ],
)
def test_what_cannot_run_workers_is_refused(output: bytes, why: str, fix: str) -> None:
    with pytest.raises(RuntimeRefused) as caught:
        judged(PYTHON, output)
    assert why in caught.value.why
    assert fix in caught.value.fix


def test_an_environment_stands_for_its_interpreter(tmp_path: Path) -> None:
    python = tmp_path / "bin" / "python"
    python.parent.mkdir()
    python.symlink_to("/bin/sh")
    assert interpreter_of(tmp_path) == python
    assert interpreter_of(python) == python


def test_what_is_not_there_or_no_program_is_told(tmp_path: Path) -> None:
    (tmp_path / "text").touch()
    for name, why in (("gone", "No such file"), ("text", "not executable"), ("", "No such file")):
        with pytest.raises(RuntimeRefused) as caught:
            interpreter_of(tmp_path / name)
        assert why in caught.value.why


def test_a_pipe_that_nobody_writes_to_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe", 0o644)
    with pytest.raises(RuntimeRefused, match="no interpreter"):
        interpreter_of(tmp_path / "pipe")


def test_of_what_the_sandbox_hides_the_operator_learns_why() -> None:
    with pytest.raises(RuntimeRefused) as caught:
        interpreter_of(Path("/home/nobody-has-this-name/env"))
    assert "sandbox hides /home" in caught.value.why
    assert "/opt" in caught.value.fix
