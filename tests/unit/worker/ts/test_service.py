"""Code that imports TorchServe's loader and service finds them working."""

import asyncio
import json
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from ts.async_service import AsyncService
from ts.metrics.dimension import Dimension
from ts.model_loader import ModelLoaderFactory
from ts.model_service.model_service import ModelService, SingleNodeService
from ts.model_service_worker import TorchModelServiceWorker
from ts.service import Service, emit_metrics
from ts.utils.util import PredictionException

from tests.unit.worker.ts.contexts import context_of

HANDLER = """
class Handler:
    def initialize(self, context): self.name = context.manifest["model"]["modelName"]
    def handle(self, data, context):
        return [f"{self.name} {row['body']} {context.get_request_header(0, 'X-A')}" for row in data]
"""


def request(body: Any, request_id: bytes = b"id0") -> dict[str, Any]:
    return {
        "requestId": request_id,
        "headers": [{"name": b"X-A", "value": b"1"}],
        "parameters": [{"name": "body", "value": body, "contentType": "text/plain"}],
    }


def service(entry_point: Callable[[Any, Any], Any]) -> Service:
    return Service("m", "/m", {"model": {"modelName": "m"}}, entry_point, None, 4)


def test_a_batch_of_the_wire_becomes_headers_rows_and_ids() -> None:
    processors, rows, ids = Service.retrieve_data_for_inference([request("a"), request("b", b"i")])
    assert rows == [{"body": "a"}, {"body": "b"}]
    assert ids == {0: "id0", 1: "i"}
    assert processors[0].get_request_properties() == {
        "body": {"content-type": "text/plain"},
        "X-A": "1",
    }
    with pytest.raises(ValueError, match="invalid inputs"):
        Service.retrieve_data_for_inference(None)


def refuse(data: Any, context: Any) -> Any:
    raise PredictionException("teapot", 418)


def run_out(data: Any, context: Any) -> Any:
    raise RuntimeError("CUDA out of memory")


def fail(data: Any, context: Any) -> Any:
    raise ValueError


@pytest.mark.parametrize(
    ("entry_point", "message", "code"),
    [
        (refuse, "teapot", 418),
        (run_out, "Out of resources", 507),
        (fail, "Prediction failed", 503),
        (lambda data, context: "text", "Invalid model predict output", 503),
        (lambda data, context: [], "number of batch response mismatched", 503),
        (lambda data, context: ["fine"], "Prediction success", 200),
    ],
)
def test_whatever_a_handler_does_the_client_is_told(
    entry_point: Any, message: str, code: int
) -> None:
    outcome = service(entry_point)._run([{"body": "a"}])  # noqa: SLF001 (what the wire carries)
    assert (outcome.message, outcome.code) == (message, code)
    assert (outcome.results is None) == (code != 200)


@pytest.mark.parametrize(
    ("entry_point", "code", "text"),
    [(lambda data, context: [data[0]["body"]], 200, b"own"), (fail, 503, b"Prediction failed")],
)
def test_an_answer_is_bytes_of_the_wire(entry_point: Any, code: int, text: bytes) -> None:
    reply = bytes(service(entry_point).predict([request("own")]))
    assert reply[:4] == code.to_bytes(4)
    assert b"id0" in reply
    assert reply.endswith(len(text).to_bytes(4) + text + b"\xff" * 4)


def test_a_model_is_loaded_as_a_worker_loads_it(tmp_path: Path, worker_process: None) -> None:
    (tmp_path / "h.py").write_text(HANDLER)
    (tmp_path / "MAR-INF").mkdir()
    manifest = {"model": {"modelName": "named", "configFile": "c.yaml"}}
    (tmp_path / "MAR-INF" / "MANIFEST.json").write_text(json.dumps(manifest))
    (tmp_path / "c.yaml").write_text("own: 1\n")
    loader = ModelLoaderFactory.get_model_loader()
    loaded = loader.load("m", str(tmp_path), "h.py", None, 1, None)
    processors, rows, _ = Service.retrieve_data_for_inference([request("a")])
    loaded.context.request_processor = processors
    # As programs do that call a handler without a server.
    assert loaded._entry_point(rows, loaded.context) == ["named a 1"]  # noqa: SLF001
    assert loaded.context.model_yaml_config == {"own": 1}


def test_an_envelope_is_put_around_the_handler(tmp_path: Path, worker_process: None) -> None:
    (tmp_path / "h.py").write_text("def handle(data, context): return data")
    worker = TorchModelServiceWorker("tcp", None, None, 9000)
    asked = {
        "modelName": b"m",
        "modelPath": str(tmp_path).encode(),
        "handler": b"h.py:handle",
        "envelope": b"body",
        "batchSize": 1,
    }
    loaded, text, code = worker.load_model(asked)
    assert (text, code) == ("loaded model m", 200)
    assert loaded._entry_point([{"body": "a"}], loaded.context) == ["a"]  # noqa: SLF001


def test_what_tsd_does_itself_is_refused_with_the_reason() -> None:
    with pytest.raises(RuntimeError, match="tsd starts its workers itself"):
        TorchModelServiceWorker("unix", "/x").run_server()
    with pytest.raises(RuntimeError, match="run asynchronous handlers themselves"):
        AsyncService(service(fail)).run()


def test_an_asynchronous_handler_can_be_called() -> None:
    async def handle(data: Any, context: Any) -> Any:
        return [row["body"] + context.get_request_id(0) for row in data]

    called = AsyncService(service(handle)).call_predict([request("a")])
    assert asyncio.run(called) == ["aid0"]


def test_metrics_are_printed_for_the_server_to_read(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO):
        emit_metrics([Dimension("a", "b")])
        emit_metrics(None)
    assert caplog.messages == [f"[METRICS]{Dimension('a', 'b')}"]


class Lengths(SingleNodeService):
    def _inference(self, data: Any) -> Any:
        return len(data[0])


class Legacy(ModelService): ...


@pytest.mark.parametrize(
    ("row", "answer"),
    [({"image": b"[1, 2]"}, [2]), ({"body": [1]}, [1]), ({"data": "abc"}, [3])],
)
def test_a_handler_of_the_old_style_is_served(
    tmp_path: Path, row: dict[str, Any], answer: Any
) -> None:
    signature = {"input_type": "application/json", "inputs": [{"data_name": "image"}]}
    (tmp_path / "signature.json").write_text(json.dumps(signature))
    context = context_of(tmp_path)
    context.manifest = {"Model": {"Signature": "signature.json"}}
    handler = Lengths("m", str(tmp_path), None)
    handler.initialize(context)
    assert handler.signature() == signature
    assert handler.handle([row], context) == answer


def test_a_handler_of_the_old_style_needs_its_signature(tmp_path: Path) -> None:
    context = context_of(tmp_path)
    context.manifest = {"Model": {"Signature": "signature.json"}}
    with pytest.raises(ValueError, match="no signature file"):
        Lengths().initialize(context)
    with pytest.raises(NotImplementedError, match="Legacy has no inference"):
        Legacy().inference([])
