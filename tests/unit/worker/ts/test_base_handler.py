"""BaseHandler: every file it loads, what the configuration asks of it, and what it reports."""

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from ts.torch_handler import base_handler, compiling
from ts.torch_handler.base_handler import BaseHandler, choose_device, setup_ort_session
from ts.torch_handler.unit_tests.test_utils.mock_context import MockContext

from tests.unit.worker.ts.contexts import asked, context_of

NET = """
import torch
class Net(torch.nn.Module):
    def forward(self, rows): return rows.argmax(dim=1)
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A model directory whose model names the largest number of each row."""
    (tmp_path / "net.py").write_text(NET)
    sys.modules.pop("net", None)
    monkeypatch.syspath_prepend(tmp_path)
    return tmp_path


@pytest.fixture
def load(folder: Path) -> Callable[..., BaseHandler]:
    def load_it(handler: type[BaseHandler] = BaseHandler, **yaml: Any) -> BaseHandler:
        loaded = handler()
        loaded.initialize(context_of(folder, {"modelFile": "net.py"}, **yaml))
        return loaded

    return load_it


Load = Callable[..., BaseHandler]


def test_a_handler_begins_empty() -> None:
    handler = BaseHandler()
    assert vars(handler) == {
        "model": None,
        "mapping": None,
        "device": None,
        "initialized": False,
        "context": None,
        "model_pt_path": None,
        "manifest": None,
        "map_location": None,
        "explain": False,
        "target": 0,
        "profiler_args": {},
        "model_yaml_config": {},
    }


def test_rows_become_a_list(load: Load, folder: Path) -> None:
    handler = load()
    assert (handler.initialized, str(handler.get_device())) == (True, "cpu")
    assert handler.handle([[1.0, 2.0], [4.0, 3.0]], context_of(folder)) == [1, 0]


def test_a_mock_context_is_enough(folder: Path) -> None:
    context: Any = MockContext(model_pt_file=None, model_dir=str(folder), model_file="net.py")
    handler = BaseHandler()
    handler.initialize(context)
    assert handler.handle([[1.0, 2.0]], context) == [1]
    (folder / "model-config.yaml").write_text("pt2: eager\n")
    config = MockContext(model_dir=str(folder), model_yaml_config_file="model-config.yaml")
    assert config.model_yaml_config == {"pt2": "eager"}


class Forgetful(BaseHandler):
    def __init__(self) -> None:
        """Without the base class's, as in handlers that people have."""


@pytest.mark.parametrize("headers", [{}, {"describe": "True"}])
def test_a_handler_may_forget_to_initialize_its_base_class(
    load: Load, folder: Path, headers: dict[str, str]
) -> None:
    handler = load(Forgetful)
    expected = [None] if headers else [1]
    assert handler.handle([[1.0, 2.0]], asked(context_of(folder), **headers)) == expected


def test_the_device_is_the_cpu_where_there_is_no_other() -> None:
    assert choose_device(None) == ("cpu", torch.device("cpu"))
    if not torch.cuda.is_available():
        assert choose_device("0") == ("cpu", torch.device("cpu"))


@pytest.mark.parametrize(
    ("settings", "arguments"),
    [
        (None, None),
        ("eager", {"backend": "eager"}),
        ({"backend": "eager", "fullgraph": True}, {"backend": "eager", "fullgraph": True}),
        (
            {"compile": {"enable": True, "backend": "inductor", "mode": "reduce-overhead"}},
            {"backend": "inductor", "mode": "reduce-overhead"},
        ),
        ({"compile": {"enable": True}}, {}),
        ({"compile": {"enable": False, "backend": "eager"}}, None),
        ({"compile": {"backend": "eager"}}, None),
        ({"export": {"aot_compile": True}}, None),
    ],
)
def test_torch_compile_is_called_as_the_configuration_says(
    load: Load, monkeypatch: pytest.MonkeyPatch, settings: Any, arguments: Any
) -> None:
    calls: list[dict[str, Any]] = []

    def compile_it(model: Any, **given: Any) -> Any:
        calls.append(given)
        return model

    monkeypatch.setattr(torch, "compile", compile_it)
    before = json.dumps(settings)
    load(pt2=settings)
    assert calls == ([] if arguments is None else [arguments])
    assert json.dumps(settings) == before


def test_a_configuration_of_no_known_form_is_refused(load: Load) -> None:
    with pytest.raises(ValueError, match="a backend's name or a mapping"):
        load(pt2=["eager"])


def test_a_compiled_model_answers_as_before(load: Load, folder: Path) -> None:
    handler = load(pt2={"compile": {"enable": True, "backend": "eager"}})
    assert isinstance(handler.model, torch._dynamo.OptimizedModule)  # noqa: SLF001
    assert handler.handle([[1.0, 2.0]], context_of(folder)) == [1]


@pytest.mark.parametrize("backend", ["nvfuser", "no_such_backend", "openvino"])
def test_a_model_that_cannot_be_compiled_is_served_as_it_is(
    load: Load, folder: Path, caplog: pytest.LogCaptureFixture, backend: str
) -> None:
    handler = load(pt2=backend)
    assert "torch.compile failed" in caplog.text
    assert handler.handle([[1.0, 2.0]], context_of(folder)) == [1]


def test_ipex_is_used_where_it_is_there_and_asked_for(
    load: Load, monkeypatch: pytest.MonkeyPatch
) -> None:
    library = type(sys)("intel_extension_for_pytorch")
    library.optimize = lambda model: ("optimized", model)  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "intel_extension_for_pytorch", library)
    monkeypatch.setattr(compiling, "IPEX_AVAILABLE", True)
    assert load().model[0] == "optimized"


def test_a_shared_library_is_loaded_where_the_configuration_says_so(tmp_path: Path) -> None:
    (tmp_path / "m.so").write_bytes(b"")

    class Loading(BaseHandler):
        def _load_torch_export_aot_compile(self, model_so_path: str) -> Any:
            return lambda rows: model_so_path

    files = {"serializedFile": "m.so"}
    handler = Loading()
    handler.initialize(context_of(tmp_path, files, pt2={"export": {"aot_compile": True}}))
    assert handler.model(None) == str(tmp_path / "m.so")
    for pt2 in ({"export": {"aot_compile": False}}, {"export": True}, None):
        with pytest.raises(RuntimeError, match="No model weights could be loaded"):
            Loading().initialize(context_of(tmp_path, files, pt2=pt2))


def test_a_model_that_the_handler_loads_its_own_way_is_made_ready_to_answer(tmp_path: Path) -> None:
    class Training(BaseHandler):
        def _load_torchscript_model(self, model_pt_path: str) -> Any:
            return torch.nn.Dropout().train()

    (tmp_path / "m.pt").write_bytes(b"")
    handler = Training()
    handler.initialize(context_of(tmp_path, {"serializedFile": "m.pt"}))
    assert not handler.model.training


def test_an_onnx_model_needs_onnxruntime(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "m.onnx").write_bytes(b"")
    monkeypatch.setattr(base_handler, "ONNX_AVAILABLE", False)
    with pytest.raises(RuntimeError, match="the runtime has no onnxruntime"):
        BaseHandler().initialize(context_of(tmp_path, {"serializedFile": "m.onnx"}))


def test_an_onnx_model_becomes_a_session(tmp_path: Path) -> None:
    pytest.importorskip("onnxruntime")
    onnx = pytest.importorskip("onnx")
    value = onnx.helper.make_tensor_value_info
    node = onnx.helper.make_node("Add", ["x", "x"], ["y"])
    ends = ([value(name, onnx.TensorProto.FLOAT, [2])] for name in "xy")
    graph = onnx.helper.make_graph([node], "twice", *ends)
    opset = onnx.helper.make_opsetid("", 17)
    onnx.save(
        onnx.helper.make_model(graph, opset_imports=[opset], ir_version=8), tmp_path / "m.onnx"
    )
    handler = BaseHandler()
    handler.initialize(context_of(tmp_path, {"serializedFile": "m.onnx"}))
    rows = {"x": torch.tensor([1.0, 2.0]).numpy()}
    assert handler.model.run(None, rows)[0].tolist() == [2.0, 4.0]
    session = setup_ort_session(str(tmp_path / "m.onnx"), "cpu")
    assert session.get_session_options().intra_op_num_threads == torch.get_num_threads()


class Explaining(BaseHandler):
    def get_insights(self, tensor_data: Any, inputs: Any, target: Any = 0) -> Any:
        return [{"rows": tensor_data, "inputs": inputs, "target": target}]

    def preprocess(self, data: Any) -> Any:
        return len(data)

    def describe_handle(self) -> Any:
        return {"described": True}


@pytest.mark.parametrize(
    ("row", "answer"),
    [
        ({"data": "d", "body": "b", "target": 3}, {"rows": 1, "inputs": "d", "target": 3}),
        ({"body": "b"}, {"rows": 1, "inputs": "b", "target": 0}),
        ([1.0], {"rows": 1, "inputs": None, "target": 0}),
    ],
)
def test_an_explanation_is_the_subclass_own(
    load: Load, folder: Path, row: Any, answer: Any
) -> None:
    handler = load(Explaining)
    assert handler.handle([row], asked(context_of(folder), explain="True")) == [answer]
    assert handler.explain


def test_a_description_is_the_subclass_own(load: Load, folder: Path) -> None:
    context = asked(context_of(folder), describe="True")
    assert load(Explaining).handle([{}], context) == [{"described": True}]
    assert load().handle([{}], context) == [None]


class Timed:
    """Stands for the metrics of a context."""

    def __init__(self) -> None:
        self.times: list[tuple[Any, ...]] = []

    def add_time(self, *given: Any) -> None:
        self.times.append(given)


def test_a_batch_reports_its_time(load: Load, folder: Path) -> None:
    context = context_of(folder)
    context.metrics = Timed()
    load().handle([[1.0, 2.0]], context)
    ((name, elapsed_ms, index, unit),) = context.metrics.times
    assert (name, index, unit) == ("HandlerTime", None, "ms")
    assert elapsed_ms == round(elapsed_ms, 2)


@pytest.mark.parametrize(("settings", "steps"), [({"profile": True}, 3), ({"profile": False}, 0)])
def test_the_steps_report_theirs_where_the_configuration_asks(
    load: Load, folder: Path, settings: dict[str, bool], steps: int
) -> None:
    context = context_of(folder, handler=settings)
    context.metrics = Timed()
    load().handle([[1.0, 2.0]], context)
    names = [given[0] for given in context.metrics.times]
    assert names[:-1] == [
        f"ts_handler_{step}" for step in ("preprocess", "inference", "postprocess")[:steps]
    ]


@pytest.fixture
def profiled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where traces go; the profiler is on."""
    monkeypatch.setenv("ENABLE_TORCH_PROFILER", "1")
    monkeypatch.setattr(base_handler, "TRACE_FOLDER", tmp_path / "traces")
    return tmp_path / "traces"


def traced(trace: Path) -> set[str]:
    return {event.get("name") for event in json.loads(trace.read_text())["traceEvents"]}


def test_the_profiler_writes_a_trace_of_the_steps(load: Load, folder: Path, profiled: Path) -> None:
    handler, context = load(), context_of(folder)
    handler.manifest = None
    assert handler.handle([[1.0, 2.0]], context) == [1]
    (trace,) = (profiled / "m").iterdir()
    assert {"preprocess", "inference", "postprocess"} <= traced(trace)
    assert handler.profiler_args == {}


def test_the_profiler_takes_the_handlers_arguments(
    load: Load, folder: Path, profiled: Path
) -> None:
    profiles: list[Any] = []
    handler = load(Explaining)
    handler.profiler_args = {"on_trace_ready": profiles.append, "record_shapes": False}
    answer = handler.handle([{"body": 1}], asked(context_of(folder), explain="True"))
    assert answer[0]["inputs"] == 1
    assert [event.key for event in profiles[0].key_averages()].count("explain") == 1
    assert not profiled.exists()
