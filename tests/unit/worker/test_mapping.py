"""Which tensors lie in the mapped archive afterwards; the archive is one that torch wrote."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from tsd.worker.mapping import MIN_BYTES, share_weights

COUNT = MIN_BYTES // 4


@pytest.fixture
def saved(tmp_path: Path) -> tuple[list[torch.Tensor], Path]:
    """Tensors, and the archive that they were saved to."""
    torch.manual_seed(0)
    tensors = [torch.rand(COUNT), torch.zeros(2, COUNT), torch.zeros(COUNT, 2), torch.rand(8)]
    torch.save(tensors, tmp_path / "weights.pt")
    return [tensor.clone() for tensor in tensors], tmp_path / "weights.pt"


def moved(tensors: list[torch.Tensor], archive: Path) -> list[bool]:
    """Which of them lie elsewhere once that is done."""
    before = [tensor.data_ptr() for tensor in tensors]
    share_weights(tensors, archive)
    return [tensor.data_ptr() != place for tensor, place in zip(tensors, before, strict=True)]


def test_large_tensors_are_mapped_and_stay_the_same(
    saved: tuple[list[torch.Tensor], Path],
) -> None:
    tensors, archive = saved
    wanted = [tensor.clone() for tensor in tensors]
    assert moved(tensors, archive) == [True, True, True, False]
    for tensor, other in zip(tensors, wanted, strict=True):
        assert tensor.shape == other.shape
        assert torch.equal(tensor, other)


def test_what_differs_in_one_byte_stays_where_it_is(
    saved: tuple[list[torch.Tensor], Path],
) -> None:
    tensors, archive = saved
    tensors[0][3] += 1
    assert moved(tensors, archive)[0] is False


def test_a_view_keeps_its_place_and_tied_ones_stay_tied(
    saved: tuple[list[torch.Tensor], Path],
) -> None:
    tensors, archive = saved
    whole = tensors[0]
    part, same, wanted = whole[5:9], whole.view(2, -1), whole.clone()
    assert moved([part, same], archive) == [True, True]
    assert torch.equal(part, wanted[5:9])
    same[0, 5] = 7.0
    assert part[0] == 7.0


def test_a_parameter_can_be_shared_and_what_is_written_stays_here(
    saved: tuple[list[torch.Tensor], Path],
) -> None:
    tensors, archive = saved
    before = archive.read_bytes()
    parameter = torch.nn.Parameter(tensors[0])
    assert moved([parameter], archive) == [True]
    assert parameter.requires_grad
    with torch.no_grad():
        parameter.fill_(1.0)
    assert archive.read_bytes() == before
