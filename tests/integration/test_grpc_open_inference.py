"""The Open Inference Protocol by gRPC, under TorchServe's package name and the standard one."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import grpc
import pytest

from tests.integration.test_grpc import refused
from tests.support.archives import make_archive
from tests.support.daemon import RunningDaemon, running
from tests.support.grpc_client import Stub, reflected, services

TORCHSERVES = "org.pytorch.serve.grpc.openinference.GRPCInferenceService"
STANDARD = "inference.GRPCInferenceService"

# It answers with one output for each input, and says as a text what it got.
MIRROR = """
    import json

    def handle(data, context):
        if data is None:
            return None
        asked = data[0]["body"]
        if asked["inputs"][0]["name"] == "bad":
            return [{"answer": 42}]
        said = {"name": "said", "datatype": "BYTES", "shape": [1], "data": [json.dumps(asked)]}
        mirrored = [one for one in asked["inputs"] if one["datatype"] != "BYTES"]
        return [
            {
                "id": asked["id"],
                "model_name": asked["model_name"],
                "model_version": "1.0",
                "outputs": [*mirrored, said],
            }
        ]
"""
INPUTS: list[dict[str, Any]] = [
    {"name": "b", "datatype": "BOOL", "shape": [2], "contents": {"bool_contents": [True, False]}},
    {"name": "i8", "datatype": "INT8", "shape": [2], "contents": {"int_contents": [-1, 2]}},
    {"name": "i64", "datatype": "INT64", "shape": [1], "contents": {"int64_contents": [-(2**40)]}},
    {"name": "u32", "datatype": "UINT32", "shape": [1], "contents": {"uint_contents": [2**32 - 1]}},
    {"name": "u64", "datatype": "UINT64", "shape": [1], "contents": {"uint64_contents": [2**63]}},
    {"name": "f", "datatype": "FP32", "shape": [2], "contents": {"fp32_contents": [0.1, 1e-8]}},
    {"name": "d", "datatype": "FP64", "shape": [1], "contents": {"fp64_contents": [0.1]}},
]
TEXT = {"name": "t", "datatype": "BYTES", "shape": [1], "contents": {"bytes_contents": [b"hi"]}}


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningDaemon]:
    folder = tmp_path_factory.mktemp("oip")
    with running(folder, "--grpc", "127.0.0.1:0") as daemon:
        daemon.register(make_archive(folder, "mirror", MIRROR), initial_workers=1)
        yield daemon


@pytest.fixture
def channel(served: RunningDaemon) -> Iterator[grpc.Channel]:
    with grpc.insecure_channel(f"127.0.0.1:{served.port('grpc')}") as open_channel:
        yield open_channel


@pytest.fixture(params=[TORCHSERVES, STANDARD])
def stub(channel: grpc.Channel, request: pytest.FixtureRequest) -> Stub:
    return Stub(channel, request.param, reflected(channel, request.param))


def test_the_server_and_its_models_are_described(stub: Stub) -> None:
    assert stub.call("ServerLive").live
    assert stub.call("ServerReady").ready
    assert stub.call("ServerMetadata").name == "tsd"
    assert stub.call("ModelReady", name="mirror").ready
    metadata = stub.call("ModelMetadata", name="mirror")
    assert (metadata.name, list(metadata.versions)) == ("mirror", ["1.0"])


def test_every_data_type_goes_there_and_back(stub: Stub) -> None:
    answer = stub.call("ModelInfer", model_name="mirror", id="77", inputs=[*INPUTS, TEXT])
    assert (answer.model_name, answer.model_version, answer.id) == ("mirror", "1.0", "77")
    *mirrored, said = answer.outputs
    for sent, got in zip(INPUTS, mirrored, strict=True):
        ((field, elements),) = sent["contents"].items()
        assert list(getattr(got.contents, field)) == pytest.approx(elements, rel=1e-7)
        assert (got.name, got.datatype, list(got.shape)) == (
            sent["name"],
            sent["datatype"],
            sent["shape"],
        )
    seen = json.loads(said.contents.bytes_contents[0])
    assert list(seen) == ["model_name", "inputs", "id"]
    assert seen["inputs"][-1] == {"shape": [1], "data": ["aGk="], "datatype": "BYTES", "name": "t"}
    # A 32-bit float of few digits is the number of these digits.
    assert seen["inputs"][5]["data"] == [0.1, 1e-8]


def test_a_large_tensor_goes_there_and_back(stub: Stub) -> None:
    elements = [float(number) for number in range(100_000)]
    tensor = {
        "name": "f",
        "datatype": "FP32",
        "shape": [len(elements)],
        "contents": {"fp32_contents": elements},
    }
    answer = stub.call("ModelInfer", model_name="mirror", inputs=[tensor])
    assert list(answer.outputs[0].contents.fp32_contents) == elements


@pytest.mark.parametrize(
    ("method", "fields", "code", "message"),
    [
        ("ModelReady", {"name": "zz"}, "NOT_FOUND", "Model not found: zz"),
        ("ModelReady", {}, "INTERNAL", "Parameter name is required."),
        ("ModelMetadata", {"name": "zz"}, "NOT_FOUND", "Model not found: zz"),
        ("ModelMetadata", {}, "INTERNAL", "Parameter model_name is required."),
        ("ModelInfer", {"model_name": "zz"}, "INTERNAL", "Model not found: zz"),
        ("ModelInfer", {}, "INTERNAL", "Parameter model_name is required."),
        (
            "ModelInfer",
            {"model_name": "mirror", "inputs": [{"name": "h", "datatype": "FP16"}]},
            "INVALID_ARGUMENT",
            "Unknown datatype of input h: FP16",
        ),
        (
            "ModelInfer",
            {"model_name": "mirror", "raw_input_contents": [b"1234"]},
            "INVALID_ARGUMENT",
            "raw_input_contents is not supported: send contents.",
        ),
        (
            "ModelInfer",
            {"model_name": "mirror", "inputs": [INPUTS[0] | {"name": "bad"}]},
            "UNAVAILABLE",
            "The handler did not return an Open Inference response.",
        ),
    ],
)
def test_what_is_wrong_is_said(
    stub: Stub, method: str, fields: dict[str, object], code: str, message: str
) -> None:
    said, details = refused(lambda: stub.call(method, **fields))
    assert (said, details.splitlines()[0]) == (code, message)


def test_torchserve_without_the_protocol_does_not_have_it(tmp_path_factory: Any) -> None:
    folder = tmp_path_factory.mktemp("strict")
    environment = {"TSD_TORCHSERVE_IS_STRICT": "true"}
    with (
        running(folder, "--grpc", "127.0.0.1:0", environment=environment) as daemon,
        grpc.insecure_channel(f"127.0.0.1:{daemon.port('grpc')}") as channel,
    ):
        assert STANDARD not in services(channel)
        ask: Any = channel.unary_unary(f"/{TORCHSERVES}/ServerLive")
        assert refused(lambda: ask(b"")) == (
            "UNIMPLEMENTED",
            f"Method not found: {TORCHSERVES}/ServerLive",
        )
