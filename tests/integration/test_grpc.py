"""The gRPC doors of a real daemon, asked by a client made from TorchServe's own fields."""

from __future__ import annotations

import json
import os
import queue
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health_pb2

from tests.support.archives import make_archive
from tests.support.daemon import RunningDaemon, launched, running, wait_for
from tests.support.grpc_client import (
    INFERENCE,
    MANAGEMENT,
    Stub,
    reflected,
    services,
    torchserves_messages,
)

ROW = """
    def handle(data, context):
        if data is None:
            return None
        types = {name: type(value).__name__ for name, value in data[0].items()}
        values = {name: bytes(value).decode() for name, value in data[0].items()}
        headers = context.get_all_request_header(0)
        return [{"types": types, "values": values, "headers": headers}]
"""
MOODS = """
    from ts.utils.util import PredictionException

    def handle(data, context):
        if data is None:
            return None
        mood = bytes(data[0]["mood"]).decode()
        if mood == "refuses":
            raise PredictionException("not today", 404)
        if mood == "raises":
            raise ValueError("a secret of the handler")
        if mood == "has no memory":
            raise MemoryError
        return ["x" * int(mood)]
"""
# It says three pieces; before each but the first it waits for a byte in the named pipe.
PIECES = """
    from ts.handler_utils.utils import send_intermediate_predict_response

    def handle(data, context):
        if data is None:
            return None
        with open(bytes(data[0]["pipe"]).decode(), "rb", buffering=0) as pipe:
            for piece in ("one ", "two "):
                send_intermediate_predict_response(
                    [piece], context.request_ids, "OK", 200, context
                )
                pipe.read(1)
        return ["three"]
"""
# It waits until the named pipe is closed.
WAITS = """
    def handle(data, context):
        if data is None:
            return None
        for row in data:
            open(bytes(row["pipe"]).decode(), "rb").read()
        return ["done"] * len(data)
"""
STATEFUL = """
    class Sums:
        def initialize(self, context):
            self.context, self.sums = context, {}

        def handle(self, data, context):
            if data is None:
                return None
            answers = []
            for place, row in enumerate(data):
                name = context.get_sequence_id(place)
                self.sums[name] = self.sums.get(name, 0) + int(bytes(row["add"]).decode())
                answers.append(str(self.sums[name]))
            return answers
"""
SEQUENCES = (
    "minWorkers: 1\nmaxWorkers: 1\nbatchSize: 2\nsequenceBatching: true\nmaxNumSequence: 2\n"
)


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningDaemon]:
    """A daemon with both doors, and the models row, moods, pieces and waits."""
    folder = tmp_path_factory.mktemp("grpc")
    store = folder / "store"
    store.mkdir()
    doors = ("--grpc", "127.0.0.1:0", "--grpc-management", "127.0.0.1:0")
    handlers = {"row": ROW, "moods": MOODS, "pieces": PIECES, "waits": WAITS}
    with running(folder, *doors, "--model-store", str(store)) as daemon:
        for name, handler in handlers.items():
            daemon.register(make_archive(folder, name, handler), initial_workers=1)
        daemon.register(make_archive(folder, "sums", STATEFUL, SEQUENCES), initial_workers=1)
        yield daemon


@pytest.fixture
def channel(served: RunningDaemon) -> Iterator[grpc.Channel]:
    with grpc.insecure_channel(f"127.0.0.1:{served.port('grpc')}") as open_channel:
        yield open_channel


@pytest.fixture
def inference(channel: grpc.Channel) -> Stub:
    return Stub(channel, INFERENCE, torchserves_messages())


@pytest.fixture
def management(served: RunningDaemon) -> Iterator[Stub]:
    with grpc.insecure_channel(f"127.0.0.1:{served.port('grpc_management')}") as channel:
        yield Stub(channel, MANAGEMENT, torchserves_messages())


@pytest.fixture
def pipe(tmp_path: Path) -> Path:
    path = tmp_path / "pipe"
    os.mkfifo(path)
    return path


@pytest.fixture
def store(served: RunningDaemon) -> Path:
    """The only place from which a caller by TCP can register."""
    return served.state_dir.parent / "store"


def put(
    store: Path, name: str, handler: str = ROW, config: str = "batchSize: 1", version: str = "1.0"
) -> str:
    """An archive in the model store; its name there."""
    with tempfile.TemporaryDirectory() as folder:
        archive = make_archive(Path(folder), name, handler, config, version)
        return Path(shutil.copy(archive, store / f"{name}-{version}.mar")).name


def asked_of(model: str, pipe: Path) -> dict[str, object]:
    """A request for a model that waits for the pipe."""
    return {"model_name": model, "input": {"pipe": str(pipe).encode()}}


def refused(call: Callable[[], object]) -> tuple[str, str]:
    """The status with which a call ends, and its details."""
    with pytest.raises(grpc.RpcError) as error:
        call()
    return error.value.code().name, error.value.details() or ""


def test_ping_says_what_the_route_says(inference: Stub) -> None:
    assert inference.call("Ping").health == '{\n  "status": "Healthy"\n}'


def test_inputs_reach_the_handler_as_bytes_and_without_headers_of_http(inference: Stub) -> None:
    answer = inference.call(
        "Predictions", model_name="row", input={"data": b"x", "more": b'{"a": 1}'}
    )
    said = json.loads(answer.prediction)
    assert said["values"] == {"data": "x", "more": '{"a": 1}'}
    assert said["types"] == {"data": "bytearray", "more": "bytearray"}
    assert said["headers"] == {"data": {"content-type": ""}, "more": {"content-type": ""}}


def test_inputs_keep_their_order(channel: grpc.Channel) -> None:
    names = ["z", "b", "data", "j", "a", "m", "x1", "x2"]
    entries = b"".join(b"\x1a\x06\x0a\x01%b\x12\x01v" % n.encode() for n in names if len(n) == 1)
    ask: Any = channel.unary_unary(f"/{INFERENCE}/Predictions")
    answer = ask(b"\x0a\x03row" + entries)
    prediction = answer[answer.index(b"{") :]
    assert list(json.loads(prediction)["values"]) == ["z", "b", "j", "a", "m"]


def test_a_large_input_and_a_large_answer_go_through(inference: Stub) -> None:
    answer = inference.call("Predictions", model_name="row", input={"data": b"y" * 1_000_000})
    assert json.loads(answer.prediction)["values"]["data"] == "y" * 1_000_000
    assert inference.call(
        "Predictions", model_name="moods", input={"mood": b"2000000"}
    ).prediction == (b"x" * 2_000_000)


@pytest.mark.parametrize(
    ("fields", "code", "details"),
    [
        (
            {"model_name": "nope"},
            "INTERNAL",
            "Model not found: nope\norg.pytorch.serve.archive.model.ModelNotFoundException",
        ),
        (
            {"model_name": "row", "model_version": "9"},
            "INTERNAL",
            "Model version: 9 does not exist for model: row\n"
            "org.pytorch.serve.archive.model.ModelVersionNotFoundException",
        ),
        ({}, "INTERNAL", "Parameter model_name is required.\nBadRequestException.()"),
        (
            {"model_name": "row", "input": {"a\0b": b"x"}},
            "INVALID_ARGUMENT",
            "The name of an input, or a sequence's id, contains a NUL character.\n"
            "org.pytorch.serve.http.BadRequestException",
        ),
        (
            {"model_name": "moods", "input": {"mood": b"refuses"}},
            "NOT_FOUND",
            "not today\norg.pytorch.serve.http.InternalServerException",
        ),
        (
            {"model_name": "moods", "input": {"mood": b"raises"}},
            "UNAVAILABLE",
            "Prediction failed\norg.pytorch.serve.http.InternalServerException",
        ),
        (
            {"model_name": "moods", "input": {"mood": b"has no memory"}},
            "INTERNAL",
            "Out of resources\norg.pytorch.serve.http.InternalServerException",
        ),
    ],
)
@pytest.mark.parametrize("method", ["Predictions", "StreamPredictions"])
def test_errors_have_torchserves_codes_and_two_lines(
    inference: Stub, method: str, fields: dict[str, object], code: str, details: str
) -> None:
    def ask() -> object:
        if method == "Predictions":
            return inference.call(method, **fields)
        return list(inference.stream(method, **fields))

    assert refused(ask) == (code, details)


def test_a_model_without_workers_says_so(management: Stub, inference: Stub, store: Path) -> None:
    message = management.call("RegisterModel", url=put(store, "idle")).msg
    assert message == (
        'Model "idle" Version: 1.0 registered with 0 initial workers. '
        "Use scale workers API to add workers for the model."
    )
    for version, named in (("", "has"), ("1.0", 'Version 1.0" has')):
        fields = {"model_name": "idle", "model_version": version}
        code, details = refused(inference.start("Predictions", fields).result)
        assert code == "INTERNAL"
        assert details.startswith(f'Model "idle" {named} no worker to serve inference request.')
        assert details.endswith("\nInternalServerException.()")
    assert management.call("UnregisterModel", model_name="idle").msg == 'Model "idle" unregistered'


def test_a_message_over_the_limit_is_refused(inference: Stub) -> None:
    code, _ = refused(
        lambda: inference.call("Predictions", model_name="row", input={"d": b"x" * 6_553_500})
    )
    assert code == "RESOURCE_EXHAUSTED"


def test_an_unknown_method_is_named(channel: grpc.Channel) -> None:
    ask: Any = channel.unary_unary("/no.such.Service/Method")
    assert refused(lambda: ask(b"")) == (
        "UNIMPLEMENTED",
        "Method not found: no.such.Service/Method",
    )


def test_a_streamed_answer_comes_piece_by_piece(inference: Stub, pipe: Path) -> None:
    call = inference.stream("StreamPredictions", **asked_of("pieces", pipe))
    with pipe.open("wb", buffering=0) as released:
        assert next(call).prediction == b"one "
        released.write(b"1")
        assert next(call).prediction == b"two "
        released.write(b"1")
        assert [answer.prediction for answer in call] == [b"three"]
    assert call.code() is grpc.StatusCode.OK


def test_a_handler_that_does_not_stream_gives_one_message(inference: Stub) -> None:
    answers = list(inference.stream("StreamPredictions", model_name="row", input={"data": b"x"}))
    assert len(answers) == 1
    assert json.loads(answers[0].prediction)["values"] == {"data": "x"}


def test_pieces_are_joined_for_who_asks_for_one_answer(inference: Stub, pipe: Path) -> None:
    call = inference.start("Predictions", asked_of("pieces", pipe))
    with pipe.open("wb", buffering=0) as released:
        released.write(b"12")
        assert call.result().prediction == b"one two three"


def waiting(served: RunningDaemon) -> int:
    return int(served.model("waits")["queue"]["waiting"])


def busy(served: RunningDaemon) -> int:
    states = [worker["state"] for worker in served.model("waits")["workers"]]
    return states.count("busy")


def test_a_cancelled_job_leaves_the_queue(
    served: RunningDaemon, inference: Stub, pipe: Path
) -> None:
    first = inference.start("Predictions", asked_of("waits", pipe))
    wait_for(lambda: busy(served) == 1)
    second = inference.start("Predictions", asked_of("waits", pipe))
    wait_for(lambda: waiting(served) == 1)
    second.cancel()
    wait_for(lambda: waiting(served) == 0)
    pipe.open("wb").close()
    assert first.result().prediction == b"done"


def test_the_clients_deadline_is_the_jobs(
    served: RunningDaemon, inference: Stub, pipe: Path
) -> None:
    first = inference.start("Predictions", asked_of("waits", pipe))
    wait_for(lambda: busy(served) == 1)
    second = inference.start("Predictions", asked_of("waits", pipe), timeout_s=1.0)
    assert second.code() is grpc.StatusCode.DEADLINE_EXCEEDED
    wait_for(lambda: waiting(served) == 0)
    pipe.open("wb").close()
    assert first.result().prediction == b"done"


def test_a_sequence_goes_over_one_stream_and_keeps_its_state(inference: Stub) -> None:
    requests: list[dict[str, object]] = [
        {"model_name": "sums", "sequence_id": "s1", "input": {"add": b"1"}},
        {"model_name": "sums", "sequence_id": "s1", "input": {"add": b"2"}},
        {"model_name": "nope", "sequence_id": "s1", "input": {"add": b"2"}},
        {"model_name": "sums", "input": {"add": b"2"}},
        {"model_name": "sums", "sequence_id": "s1", "input": {"add": b"3"}},
    ]
    answers = list(inference.converse("StreamPredictions2", requests))
    assert [answer.prediction for answer in answers] == [b"1", b"3", b"", b"", b"6"]
    errors = [answer.status for answer in answers if answer.HasField("status")]
    assert [(error.code, error.message) for error in errors] == [
        (grpc.StatusCode.INTERNAL.value[0], "Model not found: nope"),
        (grpc.StatusCode.INTERNAL.value[0], "Parameter sequenceId is required."),
    ]
    assert errors[0].details[0].type_url == "type.googleapis.com/google.rpc.ErrorInfo"
    assert b"org.pytorch.serve.archive.model.ModelNotFoundException" in errors[0].details[0].value


def test_a_sequence_without_an_id_may_be_begun(inference: Stub) -> None:
    fields = {"add": b"5", "ts_request_sequence_start": b"true"}
    (answer,) = inference.converse("StreamPredictions2", [{"model_name": "sums", "input": fields}])
    assert answer.prediction == b"5"
    assert answer.sequence_id.startswith("ts-seq-")


def test_the_management_verbs_say_what_the_routes_say(management: Stub, store: Path) -> None:
    for version in ("1.0", "2.0"):
        url = put(store, "two", version=version)
        message = management.call("RegisterModel", url=url, initial_workers=1, synchronous=True).msg
        assert message == f'Model "two" Version: {version} registered with 1 initial workers'
    assert refused(lambda: management.call("RegisterModel", url=url)) == (
        "ALREADY_EXISTS",
        "Model version 2.0 is already registered for model two\n"
        "org.pytorch.serve.http.ConflictStatusException",
    )
    described = json.loads(management.call("DescribeModel", model_name="two").msg)
    assert [one["modelVersion"] for one in described] == ["1.0"]
    everything = management.call("DescribeModel", model_name="two", model_version="all").msg
    assert [one["modelVersion"] for one in json.loads(everything)] == ["1.0", "2.0"]
    listed = json.loads(management.call("ListModels").msg)
    assert "two" in [model["modelName"] for model in listed["models"]]
    assert json.loads(management.call("ListModels", limit=1).msg)["nextPageToken"] == "1"
    message = management.call("ScaleWorker", model_name="two", min_worker=2, synchronous=True).msg
    assert message == "Workers scaled to 2 for model: two"
    message = management.call("ScaleWorker", model_name="two", min_worker=1, max_worker=1).msg
    assert message == "Processing worker updates..."
    message = management.call("SetDefault", model_name="two", model_version="2.0").msg
    assert message == 'Default version successfully updated for model "two" to "2.0"'
    code, details = refused(lambda: management.call("UnregisterModel", model_name="two"))
    assert (code, details.splitlines()[0]) == (
        "FAILED_PRECONDITION",
        "Cannot remove default version for model two",
    )
    for version in ("1.0", ""):
        assert (
            management.call("UnregisterModel", model_name="two", model_version=version).msg
            == 'Model "two" unregistered'
        )


@pytest.mark.parametrize(
    ("method", "fields", "code", "message"),
    [
        ("RegisterModel", {}, "INVALID_ARGUMENT", "Parameter url is required."),
        ("RegisterModel", {"url": "zz.mar"}, "NOT_FOUND", "Model not found at: zz.mar"),
        (
            "RegisterModel",
            {"url": "x.mar", "runtime": "java"},
            "INVALID_ARGUMENT",
            "Invalid RuntimeType value: java",
        ),
        ("DescribeModel", {"model_name": "zz"}, "NOT_FOUND", "Model not found: zz"),
        (
            "ScaleWorker",
            {"model_name": "row", "min_worker": 2, "max_worker": 1},
            "INVALID_ARGUMENT",
            "max_worker cannot be less than min_worker.",
        ),
        (
            "SetDefault",
            {"model_name": "row", "model_version": "3"},
            "NOT_FOUND",
            "Model version 3 does not exist for model row",
        ),
        ("UnregisterModel", {}, "INVALID_ARGUMENT", "Parameter url is required."),
        ("UnregisterModel", {"model_name": "zz"}, "NOT_FOUND", "Model not found: zz"),
    ],
)
def test_what_is_wrong_with_a_change_is_said(
    management: Stub, method: str, fields: dict[str, object], code: str, message: str
) -> None:
    said, details = refused(lambda: management.call(method, **fields))
    assert (said, details.splitlines()[0]) == (code, message)
    assert details.splitlines()[1].startswith("org.pytorch.serve.")


def test_changes_are_audited(served: RunningDaemon, management: Stub) -> None:
    refused(lambda: management.call("UnregisterModel", model_name="never-there"))
    assert "UnregisterModel never-there by ipv4:127.0.0.1" in served.log


def test_a_failed_start_is_an_internal_error(management: Stub, store: Path) -> None:
    url = put(store, "broken", "raise RuntimeError('no weights')")
    assert refused(
        lambda: management.call("RegisterModel", url=url, initial_workers=1, synchronous=True)
    ) == (
        "INTERNAL",
        "Failed to start workers for model broken version: 1.0\n"
        "org.pytorch.serve.http.InternalServerException",
    )


def check_health(channel: grpc.Channel, name: str) -> str:
    answer = channel.unary_unary(
        "/grpc.health.v1.Health/Check",
        request_serializer=health_pb2.HealthCheckRequest.SerializeToString,
        response_deserializer=health_pb2.HealthCheckResponse.FromString,
    )(health_pb2.HealthCheckRequest(service=name))
    return str(health_pb2.HealthCheckResponse.ServingStatus.Name(answer.status))


def test_health_knows_the_daemon_its_services_and_its_models(channel: grpc.Channel) -> None:
    assert [check_health(channel, name) for name in ("", INFERENCE, "row")] == ["SERVING"] * 3
    assert refused(lambda: check_health(channel, "nobody"))[0] == "NOT_FOUND"


def test_reflection_describes_the_services(channel: grpc.Channel) -> None:
    assert services(channel) == [
        "grpc.health.v1.Health",
        "grpc.reflection.v1alpha.ServerReflection",
        "inference.GRPCInferenceService",
        "org.pytorch.serve.grpc.inference.InferenceAPIsService",
        "org.pytorch.serve.grpc.openinference.GRPCInferenceService",
    ]
    stub = Stub(channel, INFERENCE, reflected(channel, INFERENCE))
    answer = stub.call("Predictions", model_name="row", input={"data": b"x"})
    assert json.loads(answer.prediction)["values"] == {"data": "x"}


def test_a_port_in_use_stops_the_start_with_the_usual_words(
    served: RunningDaemon, tmp_path: Path
) -> None:
    address = f"127.0.0.1:{served.port('grpc')}"
    with launched(tmp_path, "--grpc", address) as second:
        assert second.process.wait(60) == 1
        assert f"cannot listen on {address}" in second.log
        assert "Address already in use" in second.log
        assert "Traceback" not in second.log


def test_a_stop_lets_calls_finish_and_takes_no_new_ones(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    said: queue.SimpleQueue[dict[str, object] | None] = queue.SimpleQueue()
    with running(tmp_path, "--grpc", "127.0.0.1:0") as daemon:
        daemon.register(make_archive(tmp_path, "waits", WAITS), initial_workers=1)
        with grpc.insecure_channel(f"127.0.0.1:{daemon.port('grpc')}") as channel:
            inference = Stub(channel, INFERENCE, torchserves_messages())
            # A sequence whose client says nothing must not hold the daemon up.
            silent = inference.converse("StreamPredictions2", iter(said.get, None))
            said.put({"model_name": "nope", "sequence_id": "s"})
            assert next(silent).status.message == "Model not found: nope"
            call = inference.start("Predictions", asked_of("waits", pipe))
            wait_for(lambda: busy(daemon) == 1)
            daemon.process.terminate()
            daemon.wait_until_told("STOPPING=1")
            assert refused(lambda: list(silent))[0] == "UNAVAILABLE"
            said.put(None)
            assert refused(lambda: inference.call("Ping"))[0] == "UNAVAILABLE"
            pipe.open("wb").close()
            assert call.result().prediction == b"done"
        assert daemon.stop() == 0
