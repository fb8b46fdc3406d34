"""Weights that torch can only copy out of their file, mapped after all, so that workers share them.

TorchScript files and exported programs are zip archives in which tensors lie as they do in memory.
Which of the archive's files is which tensor only torch knows; so the bytes are compared."""

from __future__ import annotations

import struct
import zipfile
from collections import defaultdict
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

import torch

MIN_BYTES = 65_536
"""Smaller tensors are not worth a page of their own."""

SAMPLE_BYTES = 64
# Of a file in an archive: much that is not needed, then the lengths of its name and of what is
# between that and its contents.
LOCAL_HEADER = struct.Struct("<26xHH")


class Looks(NamedTuple):
    """By what bytes are found that may be the same: how many, and some from their middle."""

    size: int
    sample: bytes


def share_weights(tensors: Iterable[torch.Tensor], archive: Path) -> None:
    """Have each tensor on the CPU lie in the mapped archive, where that holds the same bytes.

    What is written to it later stays in this process, as if it had been copied."""
    mapped = _mapped(archive)
    places: dict[Looks, list[int]] = defaultdict(list)
    for offset, size in _contents(archive):
        places[_looks(_bytes(mapped, offset, size))].append(offset)
    with torch.no_grad():
        for tensor in filter(_is_plain, tensors):
            storage = tensor.untyped_storage()
            own = _bytes(storage, 0, storage.nbytes())
            for offset in places.get(_looks(own), ()):
                is_same = torch.equal(own, _bytes(mapped, offset, storage.nbytes()))
                if is_same and offset % tensor.itemsize == 0:
                    first = offset // tensor.itemsize + tensor.storage_offset()
                    tensor.set_(mapped, first, tensor.size(), tensor.stride())
                    break


def _mapped(archive: Path) -> torch.UntypedStorage:
    size = archive.stat().st_size
    storage = torch.UntypedStorage.from_file(str(archive), shared=False, nbytes=size)
    assert isinstance(storage, torch.UntypedStorage)
    return storage


def _contents(archive: Path) -> Iterator[tuple[int, int]]:
    """Where each large file in the archive begins, and its size."""
    with zipfile.ZipFile(archive) as opened, archive.open("rb") as raw:
        for entry in opened.infolist():
            if entry.file_size >= MIN_BYTES and entry.compress_type == zipfile.ZIP_STORED:
                raw.seek(entry.header_offset)
                before = sum(LOCAL_HEADER.unpack(raw.read(LOCAL_HEADER.size)))
                yield raw.tell() + before, entry.file_size


def _is_plain(tensor: torch.Tensor) -> bool:
    is_strided = tensor.layout == torch.strided and not tensor.is_quantized
    return is_strided and tensor.device.type == "cpu" and not tensor.is_inference()


def _bytes(storage: torch.UntypedStorage, offset: int, size: int) -> torch.Tensor:
    return torch.empty(0, dtype=torch.uint8).set_(storage, offset, (size,), (1,))


def _looks(content: torch.Tensor) -> Looks:
    middle = len(content) // 2
    return Looks(len(content), bytes(content[middle : middle + SAMPLE_BYTES].tolist()))
