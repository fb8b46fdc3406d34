"""The request arena as memory that a GPU copies from by itself.

Pages are pinned where bodies have been seen, and stay so: the daemon must not take pages out of
an arena whose workers are on GPUs, because the device would go on reading the old ones."""

from __future__ import annotations

import logging
import warnings
from itertools import pairwise

import numpy as np
import torch

from tsd.worker.gpu import Gpu

# Registered at once. A copy must not cross from one registration into another, so that larger
# bodies are copied in pieces of it.
EXTENT_BYTES = 1 << 21
# For less, one copy of many rows together costs less than one of each.
DIRECT_BYTES = 1 << 16

logger = logging.getLogger(__name__)


class PinnedArena:
    """A worker's view of the arena, and the extents of it that the driver knows."""

    def __init__(self, gpu: Gpu, arena: memoryview) -> None:
        self._gpu = gpu
        with warnings.catch_warnings():
            # That it cannot be written is how it should be.
            warnings.simplefilter("ignore")
            self._bytes = torch.frombuffer(arena, dtype=torch.uint8)
        self._base = self._bytes.data_ptr()
        self._registered: set[int] = set()
        self._is_refused = False

    def pieces(self, array: np.ndarray) -> list[torch.Tensor] | None:
        """The array's bytes as pinned pieces, in order; None where they are not, or are few."""
        begin = array.ctypes.data - self._base
        end = begin + array.nbytes
        is_inside = begin >= 0 and end <= len(self._bytes) and array.flags.c_contiguous
        if self._is_refused or not is_inside or array.nbytes < DIRECT_BYTES:
            return None
        extents = range(begin // EXTENT_BYTES, -(-end // EXTENT_BYTES))
        if not all(self._register(extent) for extent in extents):
            return None
        cuts = [begin, *[extent * EXTENT_BYTES for extent in extents[1:]], end]
        return [self._bytes[first:last] for first, last in pairwise(cuts)]

    def close(self) -> None:
        """Pinned no more; nothing may be on its way from here."""
        for extent in self._registered:
            self._gpu.unregister(self._base + extent * EXTENT_BYTES)
        self._registered.clear()

    def _register(self, extent: int) -> bool:
        if extent in self._registered:
            return True
        begin = extent * EXTENT_BYTES
        try:
            self._gpu.register(self._base + begin, min(EXTENT_BYTES, len(self._bytes) - begin))
        except RuntimeError as error:
            self._is_refused = True
            text = "the request arena cannot be pinned, bodies are copied once more: %s"
            logger.warning(text, error)
            return False
        self._registered.add(extent)
        return True
