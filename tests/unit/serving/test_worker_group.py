"""Several processes that answer as one."""

from __future__ import annotations

import socket

import pytest

from tsd.errors import ProtocolError
from tsd.ipc.arguments import WorkerArguments
from tsd.ipc.layout import Header, NoticeKind, pack_notice, unpack_header
from tsd.serving.worker_group import Unison, of_rank, reserved_port


def words(kind: NoticeKind, number: int = 0) -> tuple[Header, bytes]:
    notice = pack_notice(kind, number)
    return unpack_header(notice), notice


READY, ANSWERS = words(NoticeKind.READY), words(NoticeKind.ANSWERS, 7)
BARE = words(NoticeKind.ANSWERS)


def test_it_is_ready_when_the_last_rank_is() -> None:
    unison = Unison(3)
    assert unison.hear(2, READY) is None
    assert unison.hear(0, READY) is None
    assert not unison.is_complete
    assert unison.hear(1, READY) == READY
    assert unison.is_complete


@pytest.mark.parametrize("order", [(0, 1), (1, 0)])
def test_the_words_of_rank_0_count_whoever_comes_last(order: tuple[int, int]) -> None:
    unison = Unison(2)
    for rank in (0, 1):
        unison.hear(rank, READY)
    for _ in range(3):
        unison.expect()
        assert not unison.is_complete
        heard = [unison.hear(rank, BARE if rank else ANSWERS) for rank in order]
        assert heard == [None, ANSWERS]
        assert unison.is_complete


@pytest.mark.parametrize("rank", [0, 1])
def test_answers_that_nobody_asked_for_are_not_believed(rank: int) -> None:
    unison = Unison(2)
    unison.hear(rank, READY)
    with pytest.raises(ProtocolError):
        unison.hear(rank, BARE)


def test_a_rank_has_the_gpu_of_its_number_among_those_it_sees() -> None:
    worker = WorkerArguments(0, "m", "1.0", 3, "cuda:0", 0, "/x", "h", gpus=(4, 5), ranks=2)
    second = of_rank(worker, 1, 29500)
    assert (second.device, second.gpu_id, second.gpus) == ("cuda:1", 1, (4, 5))
    assert (second.rank, second.meeting_port) == (1, 29500)
    assert second.title == "tsd worker: m/1.0 #3 rank 1 of 2 cuda:1"


def test_a_rank_on_the_cpu_has_no_gpu() -> None:
    worker = WorkerArguments(0, "m", "1.0", 1, "cpu", None, "/x", "h", ranks=2)
    assert (of_rank(worker, 1, 1).device, of_rank(worker, 1, 1).gpu_id) == ("cpu", None)


def test_a_reserved_port_is_free_for_who_listens_there_and_for_nobody_else() -> None:
    with reserved_port() as reserved, socket.socket() as listener, socket.socket() as stranger:
        address = reserved.getsockname()
        with pytest.raises(OSError, match="in use"):
            stranger.bind(address)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
        listener.listen()
        with socket.create_connection(address):
            pass
