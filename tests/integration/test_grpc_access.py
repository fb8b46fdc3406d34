"""Who may come in by gRPC: tokens, the model API, TLS."""

from __future__ import annotations

import json
import queue
from collections.abc import Iterator
from pathlib import Path

import grpc
import pytest

from tests.integration.test_grpc import check_health, refused
from tests.support.daemon import RunningDaemon, running, wait_for
from tests.support.grpc_client import INFERENCE, MANAGEMENT, Stub, services, torchserves_messages

DOORS = ("--grpc", "127.0.0.1:0", "--grpc-management", "127.0.0.1:0")
NOT_AUTHORIZED = (
    "PERMISSION_DENIED",
    "Token Authorization failed. Token either incorrect, expired, or not provided correctly",
)
DISABLED = (
    "PERMISSION_DENIED",
    "Model API disabled\norg.pytorch.serve.archive.model.ModelException",
)


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningDaemon]:
    """A daemon with tokens and without the model API, as TorchServe is by default."""
    folder = tmp_path_factory.mktemp("guarded")
    environment = {
        "TSD_ACCESS_TOKENS": "true",
        "TSD_ACCESS_MODEL_API": "false",
        "TSD_ACCESS_KEY_FILE": str(folder / "key_file.json"),
    }
    with running(folder, *DOORS, environment=environment) as daemon:
        yield daemon


@pytest.fixture
def keys(guarded: RunningDaemon) -> dict[str, str]:
    """TorchServe's key file, read as its clients read it."""
    written = json.loads((guarded.state_dir.parent / "key_file.json").read_text())
    return {kind: entry["key"] for kind, entry in written.items()}


@pytest.fixture
def inference(guarded: RunningDaemon) -> Iterator[Stub]:
    with grpc.insecure_channel(f"127.0.0.1:{guarded.port('grpc')}") as channel:
        yield Stub(channel, INFERENCE, torchserves_messages())


@pytest.fixture
def management(guarded: RunningDaemon) -> Iterator[Stub]:
    with grpc.insecure_channel(f"127.0.0.1:{guarded.port('grpc_management')}") as channel:
        yield Stub(channel, MANAGEMENT, torchserves_messages())


def test_each_door_asks_for_its_own_token(
    inference: Stub, management: Stub, keys: dict[str, str]
) -> None:
    assert "Healthy" in inference.start("Ping", {}, token=keys["inference"]).result().health
    listed = management.start("ListModels", {}, token=keys["management"]).result().msg
    assert json.loads(listed) == {"models": []}
    for stub, method, wrong in (
        (inference, "Ping", "management"),
        (inference, "Predictions", "API"),
        (management, "ListModels", "inference"),
    ):
        assert refused(stub.start(method, {}, token=keys[wrong]).result) == NOT_AUTHORIZED
        assert refused(stub.start(method, {}).result) == NOT_AUTHORIZED


def test_streams_are_guarded_too(inference: Stub) -> None:
    assert refused(lambda: list(inference.stream("StreamPredictions"))) == NOT_AUTHORIZED
    assert refused(lambda: list(inference.converse("StreamPredictions2", []))) == NOT_AUTHORIZED


def test_probes_need_no_token_and_everything_else_does(guarded: RunningDaemon) -> None:
    with grpc.insecure_channel(f"127.0.0.1:{guarded.port('grpc')}") as channel:
        assert check_health(channel, "") == "SERVING"
        assert refused(lambda: services(channel)) == NOT_AUTHORIZED


def test_requests_may_be_larger_than_the_library_can_count(tmp_path: Path) -> None:
    size = str(2**32)
    environment = {"TSD_HTTP_MAX_REQUEST_BYTES": size, "TSD_SERVING_ARENA_BYTES": size}
    with running(tmp_path, *DOORS, environment=environment) as daemon:
        assert daemon.port("grpc") > 0


def test_models_do_not_come_and_go_where_the_model_api_is_off(
    management: Stub, keys: dict[str, str]
) -> None:
    for method in ("RegisterModel", "UnregisterModel"):
        call = management.start(method, {}, token=keys["management"])
        assert refused(call.result) == DISABLED
    call = management.start("ScaleWorker", {"model_name": "m"}, token=keys["management"])
    assert refused(call.result)[0] == "NOT_FOUND"


def test_a_door_with_tls_shows_its_certificate(tmp_path: Path) -> None:
    pytest.importorskip("cryptography")
    from tsd.settings import TlsSettings
    from tsd.tls import read_identity

    identity = read_identity(TlsSettings())
    (tmp_path / "certificate.pem").write_bytes(identity.certificate)
    (tmp_path / "key.pem").write_bytes(identity.key)
    environment = {
        "TSD_TLS_GRPC": "true",
        "TSD_TLS_CERTIFICATE": str(tmp_path / "certificate.pem"),
        "TSD_TLS_PRIVATE_KEY": str(tmp_path / "key.pem"),
    }
    with running(tmp_path, *DOORS, environment=environment) as daemon:
        known = grpc.ssl_channel_credentials(identity.certificate)
        place = f"localhost:{daemon.port('grpc')}"
        with grpc.secure_channel(place, known) as channel:
            inference = Stub(channel, INFERENCE, torchserves_messages())
            assert "Healthy" in inference.call("Ping").health
        with grpc.insecure_channel(place) as channel:
            inference = Stub(channel, INFERENCE, torchserves_messages())
            assert refused(lambda: inference.call("Ping"))[0] == "UNAVAILABLE"
        assert "ssl" not in daemon.log.lower()


def test_calls_beyond_the_bound_are_refused(tmp_path: Path) -> None:
    with (
        running(tmp_path, *DOORS, environment={"TSD_GRPC_MAX_STREAMS": "1"}) as daemon,
        grpc.insecure_channel(f"127.0.0.1:{daemon.port('grpc')}") as channel,
    ):
        inference = Stub(channel, INFERENCE, torchserves_messages())
        said: queue.SimpleQueue[dict[str, object] | None] = queue.SimpleQueue()
        first = inference.converse("StreamPredictions2", iter(said.get, None))
        said.put({"model_name": "nope", "sequence_id": "s"})
        assert next(first).status.message == "Model not found: nope"
        assert refused(lambda: inference.call("Ping"))[0] == "RESOURCE_EXHAUSTED"
        said.put(None)
        assert list(first) == []
        wait_for(lambda: is_answered(inference))


def is_answered(inference: Stub) -> bool:
    return inference.start("Ping", {}).exception() is None
