"""Model archives for tests, packed by the project's own `tsctl pack`."""

from __future__ import annotations

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
