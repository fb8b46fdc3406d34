#!/usr/bin/python3
"""The demo model as an archive, the same bytes at every build: `tsctl pack` notes the time."""

from __future__ import annotations

import json
import sys
import time
import zipfile
from pathlib import Path

from tsctl.commands.pack import MANIFEST, PackRequest, contents, manifest_of


def main(source: Path, target: Path, built_at_s: int) -> int:
    request = PackRequest(
        model_name="digits",
        handler=str(source / "handler.py"),
        model_file=source / "model.py",
        serialized_file=source / "digits.pt",
        config_file=source / "model-config.yaml",
    )
    members = {name: path.read_bytes() for name, path in contents(request).items()}
    members[MANIFEST] = json.dumps(manifest_of(request, built_at_s), indent=2).encode()
    date = time.gmtime(built_at_s)[:6]
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            entry = zipfile.ZipInfo(name, date)
            entry.external_attr = 0o644 << 16
            archive.writestr(entry, content, zipfile.ZIP_DEFLATED)
    return 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3])))
