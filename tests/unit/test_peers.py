"""The comparison with other servers, as far as it only computes: requests, answers, verdicts."""

from __future__ import annotations

import io
import json
import struct
from pathlib import Path

import pytest

from benchmarks.peers.__main__ import CONCURRENCIES, plan_of
from benchmarks.peers.asking import Request, agrees
from benchmarks.peers.environments import environment, requirements
from benchmarks.peers.roster import PEERS, ask_at, ask_triton, triton_configuration, triton_value
from benchmarks.peers.upload import is_answered
from benchmarks.peers.verdict import (
    GOALS,
    Comparison,
    Figure,
    Goal,
    Round,
    compare,
    medians,
    verdicts,
)
from benchmarks.workloads import all_workloads


def one_round(server: str, rate: float, cpu_s: float = 1.0) -> Round:
    return Round("noop", 16, server, 32, rate, 1.0, 2.0, cpu_s, 0)


class Wire:
    """A connection that answers with these bytes."""

    def __init__(self, answer: bytes) -> None:
        self.sent = b""
        self._answer = answer

    def sendall(self, message: bytes) -> None:
        self.sent += message

    def makefile(self, _mode: str) -> io.BytesIO:
        return io.BytesIO(self._answer)


def test_ratios_are_medians_of_the_rounds_ratios() -> None:
    rounds = [
        one_round(server, rate, cpu_s)
        for tsd, mosec in ((100, 10), (50, 25), (90, 30))
        for server, rate, cpu_s in (("tsd", tsd, 1.0), ("mosec", mosec, 4.0))
    ]
    assert compare(rounds) == [Comparison("noop", "mosec", {Figure.RATE: 3.0, Figure.CPU: 0.25})]


@pytest.mark.parametrize(
    ("ratio", "words"), [(4.9, "not met"), (5, "met"), (7.9, "met"), (8, "stretch met")]
)
def test_a_rate_has_a_least(ratio: float, words: str) -> None:
    assert Goal("noop", "mosec", Figure.RATE, 5, 8).words(ratio) == words


@pytest.mark.parametrize(("ratio", "words"), [(0.26, "not met"), (0.25, "met"), (0.1, "met")])
def test_cpu_has_a_most(ratio: float, words: str) -> None:
    assert Goal("tensor", "triton", Figure.CPU, 0.25).words(ratio) == words


def test_every_goal_is_of_a_peer_and_a_workload_that_there_is() -> None:
    assert {goal.peer for goal in GOALS} <= {*PEERS}
    assert {goal.workload for goal in GOALS} <= {*CONCURRENCIES} <= {*all_workloads()}


def test_tables_say_failures_and_what_became_of_the_goals() -> None:
    assert "| noop | 16 | mosec | 32 | 10 | 1.00 | 2.00 | 1.0000 | 0 |" in medians(
        [one_round("mosec", 10)]
    )
    text = verdicts([Comparison("noop", "mosec", {Figure.RATE: 6, Figure.CPU: 0.5})])
    assert "| noop | mosec | requests/s | 6 | ≥ 5 | ≥ 8 | met |" in text
    assert "| noop | mosec | CPU | 0.5 |" in text


def test_answers_agree_but_for_rounding() -> None:
    assert agrees([0.5, -1.0], [0.5000001, -1.0])
    assert not agrees([0.5], [0.5, -1.0])
    assert not agrees([0.6], [0.5])
    assert not agrees("0.5", 0.5)
    assert agrees({"ok": True}, {"ok": True})


def test_a_message_holds_all_headers_and_the_body() -> None:
    request = Request(
        "/x", b"body", "text/plain", json.loads, ("Inference-Header-Content-Length: 0",)
    )
    head, _, body = request.message().partition(b"\r\n\r\n")
    assert head.startswith(b"POST /x HTTP/1.1\r\n")
    assert b"Inference-Header-Content-Length: 0" in head.split(b"\r\n")
    assert b"Content-Length: 4" in head.split(b"\r\n")
    assert body == b"body"


def test_most_are_asked_the_workloads_own_body() -> None:
    request = ask_at("/predictions/{name}")(all_workloads()["noop"])
    assert (request.path, request.body) == ("/predictions/noop", b'{"value": 42}')


def test_triton_is_asked_the_same_numbers_in_its_own_protocol() -> None:
    workload = all_workloads()["mlp"]
    (tensor,) = json.loads(ask_triton(workload).body)["inputs"]
    assert tensor["data"] == json.loads(workload.body)
    assert (tensor["shape"], tensor["datatype"]) == ([1, 128], "FP32")


def test_triton_is_given_bytes_as_they_are() -> None:
    request = ask_triton(all_workloads()["tensor"])
    assert request.body == all_workloads()["tensor"].body
    assert request.headers == ("Inference-Header-Content-Length: 0",)


@pytest.mark.parametrize(
    ("output", "tail", "value"),
    [
        ({"datatype": "BYTES", "data": ['{"ok":true}']}, b"", {"ok": True}),
        ({"datatype": "FP32", "data": [0.5, 1.5]}, b"", [0.5, 1.5]),
        ({"datatype": "FP32", "parameters": {}}, struct.pack("<f", 2.5), 2.5),
    ],
)
def test_tritons_answers_are_read(output: object, tail: bytes, value: object) -> None:
    content = json.dumps({"outputs": [output]}).encode() + tail
    assert triton_value(content) == value


def test_triton_batches_what_has_batches() -> None:
    assert "max_batch_size: 32\ndynamic_batching {}" in triton_configuration("mlp", 32)
    assert "dynamic_batching" not in triton_configuration("tensor", 1)


def test_an_upload_counts_when_it_was_answered_whole() -> None:
    message, whole = b"POST / HTTP/1.1\r\n\r\n", b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
    wire = Wire(whole)
    assert is_answered(wire, message)  # type: ignore[arg-type]  # no socket in a unit test
    assert wire.sent == message
    assert not is_answered(Wire(whole[:-1]), message)  # type: ignore[arg-type]  # as above
    assert not is_answered(Wire(whole.replace(b"200 OK", b"503 No")), message)  # type: ignore[arg-type]  # as above


def test_an_environment_made_from_the_same_list_is_used_again(tmp_path: Path) -> None:
    made = tmp_path / "mosec"
    made.mkdir()
    (made / "made-from.txt").write_text(requirements("mosec"))
    assert environment("mosec", tmp_path) == made


def test_every_peer_has_its_pinned_versions() -> None:
    for name in PEERS:
        lines = requirements(name).splitlines()[1:]
        assert "torch==2.13.0+cpu" in lines
        assert all("==" in line for line in lines)


def test_the_command_line_chooses(capsys: pytest.CaptureFixture[str]) -> None:
    plan = plan_of(["--only", "mosec,triton", "--workload", "noop", "--batch", "16"])
    assert [peer.name for peer in plan.peers] == ["mosec", "triton"]
    assert ([one.name for one in plan.workloads], plan.batch_size) == (["noop"], 16)
    with pytest.raises(SystemExit):
        plan_of(["--only", "nobody"])
    assert "no workload 'nobody'" in capsys.readouterr().err
