"""What a process of several finds, and what it may say."""

from __future__ import annotations

import pytest

from tests.unit.worker.channel import FakeChannel
from tsd.ipc.arguments import WorkerArguments
from tsd.ipc.layout import NoticeKind, unpack_header
from tsd.worker import codec
from tsd.worker.ranks import FollowerOutbox, rank_variables


def test_it_finds_what_torchrun_gives() -> None:
    worker = WorkerArguments(
        0, "m", "1.0", 3, "cpu", None, "/x", "h", threads=2, rank=1, ranks=4, meeting_port=29500
    )
    found = rank_variables(worker)
    assert (found["RANK"], found["LOCAL_RANK"]) == ("1", "1")
    assert (found["WORLD_SIZE"], found["LOCAL_WORLD_SIZE"], found["GROUP_RANK"]) == ("4", "4", "0")
    assert (found["MASTER_ADDR"], found["MASTER_PORT"]) == ("127.0.0.1", "29500")
    assert (found["OMP_NUM_THREADS"], found["TORCHELASTIC_RUN_ID"]) == ("2", "m_3")


def test_a_follower_says_that_it_is_done_and_logs_what_failed(
    capsys: pytest.CaptureFixture[str],
) -> None:
    channel = FakeChannel()
    outbox = FollowerOutbox(channel.as_socket(), memoryview(b""), 10)
    failure = codec.raised(ValueError("no"), 1)[0]
    answers = [codec.answer(b"x" * 1_000_000, 200, "", {}), failure]
    outbox.send_part(9, 1, answers[0])
    outbox.send_answers(9, (0, 0), [1, 2], answers)
    (notice,) = channel.sent
    header = unpack_header(notice)
    assert (header.kind, header.batch_id, header.rows) == (NoticeKind.ANSWERS, 9, 0)
    assert "ValueError: no" in capsys.readouterr().err
