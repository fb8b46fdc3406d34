"""What crosses to the fork server and back."""

from dataclasses import replace

import pytest

from tsd.errors import ProtocolError
from tsd.ipc.arguments import (
    WorkerArguments,
    pack_arguments,
    pack_reply,
    unpack_arguments,
    unpack_reply,
)

ARGUMENTS = WorkerArguments(
    request_id=7,
    model_name="m",
    model_version="1.0",
    number=2,
    device="cuda:1",
    gpu_id=1,
    model_dir="/d",
    handler="h.py",
    manifest={"model": {"modelName": "m"}},
    model_yaml={"handler": {"deep": [1, None, "ü"]}},
)


def test_arguments_arrive_as_they_were_sent() -> None:
    assert unpack_arguments(pack_arguments(ARGUMENTS)) == ARGUMENTS
    assert ARGUMENTS.title == "tsd worker: m/1.0 #2 cuda:1"


def test_every_process_of_a_worker_has_a_group_of_its_own() -> None:
    assert ARGUMENTS.group == "m@1.0/worker-2"
    assert replace(ARGUMENTS, rank=1, ranks=2).group == "m@1.0/worker-2-rank-1"


def test_a_reply_says_a_process_or_why_there_is_none() -> None:
    assert unpack_reply(pack_reply(7, 1234)) == (7, 1234, "")
    assert unpack_reply(pack_reply(7, 0, "no more processes")) == (7, 0, "no more processes")


@pytest.mark.parametrize(
    "reply", [b"", b"[]", b"{}", b'{"request_id": 1, "pid": null, "error": 0}']
)
def test_a_malformed_reply_is_not_believed(reply: bytes) -> None:
    with pytest.raises(ProtocolError):
        unpack_reply(reply)
