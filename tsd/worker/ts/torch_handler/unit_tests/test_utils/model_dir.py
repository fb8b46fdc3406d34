"""Model directories for handlers' own unit tests."""

from __future__ import annotations

import shutil
import urllib.request
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import urlsplit


def download_model(model_url: str, model_dir: str | Path) -> None:
    """Fetch weights as `model.pt`, once: they are kept in `.cache` of the working directory."""
    cached = Path(".cache", Path(urlsplit(model_url).path).name)
    if not cached.exists():
        cached.parent.mkdir(exist_ok=True)
        urllib.request.urlretrieve(model_url, cached)  # noqa: S310 (a test's own URL)
    shutil.copy(cached, Path(model_dir, "model.pt"))


def copy_files(src_dir: Path, dst_dir: Path, files: Mapping[str, str]) -> None:
    """Copy files, each under the name that it is to have."""
    for source, target in files.items():
        shutil.copyfile(Path(src_dir, source), Path(dst_dir, target))
