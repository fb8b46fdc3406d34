#!/usr/bin/python3
"""Wheels of several Pythons -> one folder to import from, and one of their licences.

The compiled files carry the ABI in their names, so they lie side by side; all else has to be the
same in every wheel of a package, or the build fails here."""

from __future__ import annotations

import sys
import tarfile
import zipfile
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

# What no program reads at run time: sources of the compiled files, and notes of installers.
UNUSED = {".c", ".cc", ".h", ".pxd", ".pxi", ".pyi", ".pyx"}
# A sample that a wheel puts beside its modules.
STRAY = "example.py"
KEPT_NOTE = "METADATA"
LICENCES = ("LICENSE", "LICENCE", "NOTICE", "COPYING")


def main(archives: Path, modules: Path, licences: Path) -> int:
    for archive in sorted(archives.iterdir()):
        for path, content in members(archive):
            place = place_of(path, modules, licences)
            if place is not None:
                write(place, without_shebang(content) if path.suffix == ".py" else content)
    return 0


def members(archive: Path) -> Iterator[tuple[PurePosixPath, bytes]]:
    """The files of an archive, named as in a wheel."""
    return of_wheel(archive) if archive.suffix == ".whl" else of_source(archive)


def of_wheel(archive: Path) -> Iterator[tuple[PurePosixPath, bytes]]:
    with zipfile.ZipFile(archive) as wheel:
        for entry in wheel.infolist():
            if not entry.is_dir():
                yield PurePosixPath(entry.filename), wheel.read(entry)


def of_source(archive: Path) -> Iterator[tuple[PurePosixPath, bytes]]:
    """Its package, its description and its licence."""
    stem = archive.name.removesuffix(".tar.gz")
    notes = PurePosixPath(f"{stem}.dist-info")
    with tarfile.open(archive) as source:
        for member in filter(tarfile.TarInfo.isfile, source):
            file = source.extractfile(member)
            assert file is not None
            path = PurePosixPath(member.name).relative_to(stem)
            if len(path.parts) > 1:
                yield path, file.read()
            elif path.name == "PKG-INFO":
                yield notes / KEPT_NOTE, file.read()
            elif path.name.startswith(LICENCES):
                yield notes / path.name, file.read()


def place_of(path: PurePosixPath, modules: Path, licences: Path) -> Path | None:
    """Where a file goes; None where it is not shipped."""
    top = path.parts[0]
    if not top.endswith(".dist-info"):
        is_unused = path.suffix in UNUSED or path.name == "py.typed" or str(path) == STRAY
        return None if is_unused else modules / path
    if path.name == KEPT_NOTE:
        return modules / path
    if path.name.startswith(LICENCES):
        inner = (part for part in path.parts[1:] if part != "licenses")
        return licences.joinpath(top.partition("-")[0], *inner)
    return None


def without_shebang(content: bytes) -> bytes:
    """Modules are imported; some start as if they were commands."""
    return content.partition(b"\n")[2] if content.startswith(b"#!") else content


def write(place: Path, content: bytes) -> None:
    if place.exists():
        if place.read_bytes() != content:
            raise SystemExit(f"{place}: the wheels of two Pythons disagree")
        return
    place.parent.mkdir(parents=True, exist_ok=True)
    place.write_bytes(content)


if __name__ == "__main__":
    sys.exit(main(*map(Path, sys.argv[1:])))
