"""Model archives for tests, packed by the project's own `tsctl pack`."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from pathlib import Path

from tsctl.commands.pack import PackRequest, pack

ECHO = """
    def handle(data, context):
        if data is None:
            return None
        return [row.get("body") for row in data]
"""


def make_archive(
    folder: Path, name: str = "echo", handler: str = ECHO, config: str = "", version: str = "1.0"
) -> Path:
    """A `.mar` of a handler's source and the text of its model-config.yaml."""
    sources = folder / f"{name}-{version}-sources"
    sources.mkdir(parents=True)
    handler_path, config_path = sources / f"{name}_handler.py", sources / "model-config.yaml"
    handler_path.write_text(textwrap.dedent(handler))
    config_path.write_text(textwrap.dedent(config) or "minWorkers: 1\nmaxWorkers: 1\n")
    return pack(
        PackRequest(
            model_name=name,
            version=version,
            handler=str(handler_path),
            config_file=config_path,
            export_path=sources,
        )
    )


def by_the_archiver(sources: Path, name: str, *options: str) -> Path:
    """A `.mar` beside the folder of its sources, made by the real torch-model-archiver."""
    temporary = sources.parent / f"{name}-archiver"
    temporary.mkdir()
    command = (sys.executable, "-m", "model_archiver.model_packaging")
    words = ("--model-name", name, "--version", "1.0", "--export-path", str(sources.parent))
    # It keeps its files in a folder of that name there.
    environment = os.environ | {"TMPDIR": str(temporary)}
    subprocess.run([*command, *words, *options], cwd=sources, env=environment, check=True)
    return sources.parent / f"{name}.mar"
