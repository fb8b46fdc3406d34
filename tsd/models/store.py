"""What an operator's words name in the model store, or beside it.

Where a URL leads is download.py's business. Everything here may block."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote

from tsd.errors import BadRequest, ModelNotFound
from tsd.models.description import BARE_SUFFIXES

ARCHIVE_SUFFIXES = (".mar", ".model", ".tar.gz", ".tgz", *BARE_SUFFIXES)


@dataclass(frozen=True, slots=True)
class Origin:
    """Where a model's files come from; with the URL, if they were downloaded."""

    path: Path
    url: str = ""


def check_url(url: str) -> str:
    """The url, if it may be looked up at all."""
    if not url:
        raise ModelNotFound("empty url")
    if ".." in unquote(url):
        raise ModelNotFound(f"Relative path is not allowed in url: {url}")
    if "\0" in url:
        raise BadRequest("The url holds a NUL byte.")
    return url


def resolve(url: str, model_store: Path | None, *, is_local_caller: bool) -> Path:
    """The file or directory that `url` names, which is not a URL with a scheme.

    A name is looked up in the model store. An absolute path is taken from a local caller only
    (the control socket, the command line): whoever comes by TCP names files of the store."""
    path = Path(check_url(url))
    if not (path.is_absolute() and is_local_caller):
        if model_store is None or path.is_absolute() or len(path.parts) != 1:
            raise _not_found(url, model_store)
        path = model_store / path
    try:
        if path.exists():
            return path
    except OSError as error:
        raise _not_found(url, model_store) from error
    raise _not_found(url, model_store)


def store_archives(model_store: Path) -> list[Path]:
    """Every archive, bare model and directory of the store: what `--models all` means."""
    return sorted(
        path
        for path in model_store.iterdir()
        if not path.name.startswith(".") and (path.name.endswith(ARCHIVE_SUFFIXES) or path.is_dir())
    )


def _not_found(url: str, model_store: Path | None) -> ModelNotFound:
    store = f"the model store {model_store}" if model_store else "no model store is configured"
    return ModelNotFound(
        f"Model not found at: {url}",
        why=f"no such file ({store})" if model_store else f"no such file, and {store}",
        fix="give an existing archive, or put it into the model store",
    )
