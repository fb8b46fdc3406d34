"""An archive's files, unpacked within bounds: zip (`.mar`), or gzip tar (`.tar.gz`, `.tgz`).

Names are checked before a file is opened. Sizes are checked as they are stated, and again while
bytes are written: what is stated may be a lie."""

from __future__ import annotations

import errno
import gzip
import io
import shutil
import stat
import struct
import tarfile
import zipfile
import zlib
from pathlib import Path, PurePosixPath
from typing import IO

from tsd.errors import ArchiveTooLarge, InvalidArchive
from tsd.settings import ArchiveSettings

MAX_NAME_BYTES = 255
CHUNK_BYTES = 1 << 20
COMPRESSIONS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
GZIP_MAGIC = b"\x1f\x8b"
# What may stand before one entry of a tar: its header, long names, attributes.
MAX_TAR_HEADER_BYTES = 262_144

# What zipfile, gzip and tarfile raise for bytes that are no good archive.
DAMAGE = (
    *(zipfile.BadZipFile, tarfile.TarError, zlib.error, struct.error, EOFError),
    *(LookupError, RuntimeError, ValueError, OverflowError),
)


def extract(source: Path, folder: Path, limits: ArchiveSettings) -> None:
    """Unpack the archive into an empty folder.

    Raises InvalidArchive, ArchiveTooLarge, and OSError when the disk is full or not readable."""
    try:
        with source.open("rb") as packed:
            is_tar = packed.read(len(GZIP_MAGIC)) == GZIP_MAGIC
        (_extract_tar if is_tar else _extract_zip)(source, folder, limits)
    except DAMAGE as error:
        raise InvalidArchive("The archive is damaged.", why=str(error)) from error
    except OSError as error:
        # EINVAL: it says that an entry lies before the file's beginning.
        if error.errno in (None, errno.EINVAL, errno.ENOTDIR):
            raise InvalidArchive("The archive is damaged.", why=str(error)) from error
        raise


def check_entry_name(name: str) -> str:
    """The name of an archive's entry, if nothing can be reached by it outside the directory."""
    path = PurePosixPath(name)
    if not name or path.is_absolute() or ".." in path.parts or not path.parts:
        raise _unsafe(name, "it points outside the archive")
    if "\\" in name or ":" in name or any(ord(letter) < 32 for letter in name):
        raise _unsafe(name, "it holds a character that is not allowed")
    if any(len(part.encode(errors="replace")) > MAX_NAME_BYTES for part in path.parts):
        raise _unsafe(name, f"a part is longer than {MAX_NAME_BYTES} bytes")
    return name


class _Inventory:
    """The entries met so far: safe and different names, and together within the limits."""

    def __init__(self, archive_bytes: int, limits: ArchiveSettings) -> None:
        self._limits = limits
        self._names: set[str] = set()
        self._bytes = 0
        self._most_for_its_size = limits.max_ratio * max(archive_bytes, CHUNK_BYTES)

    def admit(self, name: str, size: int, *, is_plain: bool) -> None:
        """Raise unless one more entry, of that name and size, is fine."""
        folded = check_entry_name(name).rstrip("/").casefold()
        if folded in self._names:
            raise _unsafe(name, "it stands twice")
        if not is_plain:
            raise _unsafe(name, "it is a link or a device")
        self._names.add(folded)
        self._bytes += size
        limits = self._limits
        if len(self._names) > limits.max_files:
            raise ArchiveTooLarge(f"The archive holds more than {limits.max_files} files.")
        if self._bytes > limits.max_bytes:
            raise ArchiveTooLarge(
                f"The archive would unpack to more than {limits.max_bytes} bytes."
            )
        if self._bytes > self._most_for_its_size:
            raise ArchiveTooLarge(
                f"The archive would unpack to more than {limits.max_ratio} times its size."
            )


def _extract_zip(source: Path, folder: Path, limits: ArchiveSettings) -> None:
    with zipfile.ZipFile(source) as archive:
        archive_bytes = source.stat().st_size
        inventory = _Inventory(archive_bytes, limits)
        entries = archive.infolist()
        for entry in entries:
            kind = stat.S_IFMT(entry.external_attr >> 16)
            is_plain = kind in (0, stat.S_IFREG, stat.S_IFDIR)
            inventory.admit(entry.filename, entry.file_size, is_plain=is_plain)
            if entry.compress_type not in COMPRESSIONS:
                raise InvalidArchive("The archive is damaged.", why="its compression is unknown")
        if sum(entry.compress_size for entry in entries) > archive_bytes:
            raise InvalidArchive("The archive is damaged.", why="its entries overlap")
        for entry in entries:
            if entry.is_dir():
                _make_folder(folder / entry.filename)
                continue
            # zipfile reads no more than the size that the entry states, which has been checked.
            with archive.open(entry) as reading:
                _write(folder / entry.filename, reading)


def _extract_tar(source: Path, folder: Path, limits: ArchiveSettings) -> None:
    inventory = _Inventory(source.stat().st_size, limits)
    with gzip.open(source) as unpacked:
        stream = _MeteredStream(unpacked)
        with tarfile.open(fileobj=stream, mode="r|") as archive:
            entry = archive.next()
            while entry is not None:
                stream.expect(entry.size)
                _extract_tar_entry(archive, entry, folder, inventory)
                stream.expect(MAX_TAR_HEADER_BYTES)
                entry = archive.next()
        # To the end, where the checksum stands.
        stream.expect(CHUNK_BYTES)
        while stream.read(CHUNK_BYTES):
            pass


def _extract_tar_entry(
    archive: tarfile.TarFile, entry: tarfile.TarInfo, folder: Path, inventory: _Inventory
) -> None:
    # As TorchServe does it: what a tar holds lies in one folder, whatever its name.
    whole = f"{entry.name}/" if entry.isdir() else entry.name
    first, slash, rest = whole.partition("/")
    name = rest if slash else first
    if entry.isdir() and not name:
        return
    check_entry_name(whole)
    is_file = entry.isreg() and not entry.issparse()
    inventory.admit(name, max(entry.size, 0), is_plain=is_file or entry.isdir())
    if entry.isdir():
        _make_folder(folder / name)
        return
    reading = archive.extractfile(entry)
    assert reading is not None
    with reading:
        _write(folder / name, reading)


class _MeteredStream(io.BufferedIOBase):
    """A stream that ends with an error where more comes out of it than was expected."""

    def __init__(self, stream: gzip.GzipFile) -> None:
        self._stream = stream
        self._left = MAX_TAR_HEADER_BYTES

    def expect(self, size: int) -> None:
        """So many bytes may come; and as many as a reader takes in one go ahead of them."""
        self._left = size + tarfile.RECORDSIZE + tarfile.BLOCKSIZE

    def read(self, size: int | None = -1) -> bytes:
        """What tarfile calls."""
        piece = self._stream.read(size)
        self._left -= len(piece)
        if self._left < 0:
            raise ArchiveTooLarge("The archive holds more than its entries state.")
        return piece


def _make_folder(path: Path) -> None:
    path.mkdir(mode=0o700, parents=True, exist_ok=True)


def _write(target: Path, reading: IO[bytes]) -> None:
    _make_folder(target.parent)
    with target.open("xb") as writing:
        shutil.copyfileobj(reading, writing, CHUNK_BYTES)


def _unsafe(name: str, why: str) -> InvalidArchive:
    return InvalidArchive(
        "The archive holds an unsafe entry.", why=f"{name[:100]!r}: {why}", fix="pack it anew"
    )
