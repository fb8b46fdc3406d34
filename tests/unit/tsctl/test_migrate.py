"""tsctl migrate: the settings on one stream, the table on the other, or both where asked."""

from __future__ import annotations

import io
import json
from pathlib import Path

import pytest

from tsctl.arguments import parse
from tsctl.commands import migrate
from tsctl.console import Console

MIGRATION = {
    "toml": "[serving]\nqueue_size = 7\n",
    "table": [
        {
            "key": "job_queue_size",
            "verdict": "same",
            "becomes": "serving.queue_size = 7",
            "why": "",
        },
        {"key": "vmargs", "verdict": "gone", "becomes": "", "why": "no\x1b JVM"},
    ],
    "warnings": ["doors.http is open"],
}


def shown(*words: str, is_json: bool = False) -> tuple[str, str]:
    console = Console(io.StringIO(), io.StringIO())
    console.is_json = is_json
    migrate.show(MIGRATION, parse(["migrate", "config.properties", *words]), console)
    assert isinstance(console.output, io.StringIO)
    assert isinstance(console.errors, io.StringIO)
    return console.output.getvalue(), console.errors.getvalue()


def test_the_settings_go_to_the_output_and_the_table_beside_it() -> None:
    output, errors = shown()
    assert output == MIGRATION["toml"]
    assert errors.splitlines() == [
        "KEY             NOW   BECOMES                 WHY",
        "job_queue_size  same  serving.queue_size = 7  -",
        "vmargs          gone  -                       no\\x1b JVM",
        "warning: doors.http is open",
    ]


def test_the_settings_go_to_a_file_that_is_new(tmp_path: Path) -> None:
    target = tmp_path / "tsd.toml"
    output, errors = shown("--output", str(target))
    assert target.read_text() == MIGRATION["toml"]
    assert "job_queue_size" in output
    assert f"wrote {target}" in output
    assert errors == ""
    with pytest.raises(FileExistsError):
        shown("--output", str(target))


def test_json_is_what_tsd_said() -> None:
    output, _ = shown(is_json=True)
    assert json.loads(output) == MIGRATION


def test_what_tsd_complains_of_is_told_in_its_words() -> None:
    said = "tsd: a.properties cannot be read\n  why: no such file\n  fix: check: its name\n"
    failure = migrate.failure_from(said)
    assert (failure.what, failure.why, failure.fix) == (
        "a.properties cannot be read",
        "no such file",
        "check: its name",
    )
    assert migrate.failure_from("").what == "tsd could not be run"
