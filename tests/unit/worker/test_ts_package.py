"""The names that handlers import from `ts` behave as handlers expect."""

import json
from collections.abc import Callable
from functools import partial
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
import ts
from ts.context import Context, RequestProcessor
from ts.handler_utils.timer import timed
from ts.handler_utils.utils import import_class
from ts.service import PREDICTION_METRIC
from ts.service import PredictionException as FromService
from ts.utils.util import (
    PredictionException,
    list_classes_from_module,
    load_label_mapping,
    map_class_to_label,
)
from ts.version import __version__ as version


def context(**settings: Any) -> Context:
    return Context("m", "/model", {"model": {}}, 2, None, **settings)


def test_the_version_is_torchserves() -> None:
    assert ts.__version__ == version == "0.12.0"


def test_the_service_module_names_the_same_exception() -> None:
    assert FromService is PredictionException
    assert PREDICTION_METRIC == "PredictionTime"


def test_a_refusal_carries_message_and_status() -> None:
    assert (PredictionException("m").message, PredictionException("m").error_code) == ("m", 500)
    assert str(PredictionException("m", 404)) == "m : 404"


def test_headers_are_made_when_first_asked_for_and_once() -> None:
    made: list[int] = []

    def make() -> dict[str, Any]:
        made.append(1)
        return {"A": "1"}

    processor = RequestProcessor(read_header=make)
    assert made == []
    assert processor.get_request_property("A") == "1"
    assert processor.get_request_property("a") is None
    assert made == [1]


def test_a_request_carries_its_answers_status_and_headers() -> None:
    processor = RequestProcessor({"A": "1"})
    assert (processor.get_response_status_code(), processor.get_response_headers()) == (200, {})
    processor.report_status(404, "gone")
    processor.add_response_property("X", "y")
    assert processor.get_response_status_code() == 404
    assert processor.get_response_status_phrase() == "gone"
    assert processor.get_response_header("X") == "y"


def test_a_context_reads_and_shapes_the_request_at_an_index() -> None:
    subject = context()
    subject.begin_batch(["i0", "i1"], [RequestProcessor({"k": "0"}), RequestProcessor({"k": "1"})])
    subject.set_response_content_type(1, "text/plain")
    subject.set_response_status(418, "teapot", 1)
    assert (subject.get_request_id(1), subject.get_request_id(5)) == ("i1", None)
    assert subject.request_ids == {0: "i0", 1: "i1"}
    assert subject.get_request_header(1, "k") == "1"
    assert subject.get_response_content_type(0) is None
    assert subject.get_response_content_type(1) == "text/plain"
    assert [subject.get_response_status(i) for i in (0, 1)] == [(200, None), (418, "teapot")]
    assert subject.metrics.request_ids == {0: "i0", 1: "i1"}


def test_a_sequence_is_named_by_its_header() -> None:
    subject = context()
    subject.begin_batch(["i"], [RequestProcessor({subject.header_key_sequence_id: "s1"})])
    assert subject.get_sequence_id(0) == "s1"
    subject.begin_batch(["i"], [RequestProcessor({})])
    assert subject.get_sequence_id(0) is None
    assert subject.header_key_sequence_start == "ts_request_sequence_start"


def test_a_context_is_read_by_its_private_names_too() -> None:
    subject = context()
    subject.begin_batch(["i"], [RequestProcessor({"k": "v"})])
    read: Callable[[str], Any] = partial(getattr, subject)
    assert read("_system_properties")["model_dir"] == "/model"
    assert read("_request_processor")[0].get_request_property("k") == "v"
    assert read("_metrics") is subject.metrics
    subject.request_processor = []
    subject.metrics = None
    assert (read("_request_processor"), read("_metrics")) == ([], None)


def test_a_context_alone_serves_a_handlers_own_unit_test() -> None:
    assert context().get_request_id() is None
    assert context().get_all_request_header(0) == {}


def test_classes_are_imported_by_name() -> None:
    assert import_class("ts.context.Context") is Context
    assert import_class("context.Context", "ts") is Context
    assert import_class("Context", "ts.context") is Context
    for name, prefix in (("Context", None), ("", None), ("ts.context.NoSuch", None), ("", "ts")):
        with pytest.raises(ImportError):
            import_class(name, prefix)


def test_only_a_modules_own_classes_count() -> None:
    module = ModuleType("made")
    exec("class A: pass\nclass B(A): pass\nfrom pathlib import Path", module.__dict__)
    assert {cls.__name__ for cls in list_classes_from_module(module)} == {"A", "B"}
    parent = module.__dict__["B"]
    assert [cls.__name__ for cls in list_classes_from_module(module, parent)] == ["B"]


@pytest.mark.parametrize(
    ("content", "mapping"),
    [
        ({"0": "cat", "1": "dog"}, {"0": "cat", "1": "dog"}),
        ({"0": ["n01", "cat"]}, {"0": "cat"}),
        ({"object_type_names": ["cat", "dog"]}, {"0": "cat", "1": "dog"}),
        ({"object_type_names": {"7": "cat"}}, {"7": "cat"}),
    ],
)
def test_labels_come_in_three_forms(tmp_path: Path, content: Any, mapping: Any) -> None:
    path = tmp_path / "index_to_name.json"
    path.write_text(json.dumps(content))
    assert load_label_mapping(path) == mapping


def test_a_label_file_that_is_no_object_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "index_to_name.json"
    path.write_text("[1]")
    with pytest.raises(ValueError, match="JSON object"):
        load_label_mapping(path)


def test_a_missing_label_file_is_said_and_no_error(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    assert load_label_mapping(tmp_path / "index_to_name.json") is None
    assert "index_to_name.json is missing" in caplog.text


def test_probabilities_get_labels_where_there_are_some() -> None:
    probabilities = [[0.9, 0.1]]
    assert map_class_to_label(probabilities) == [{"0": 0.9, "1": 0.1}]
    assert map_class_to_label(probabilities, {"5": "cat"}, [[5, 3]]) == [{"cat": 0.9, "3": 0.1}]
    with pytest.raises(TypeError, match="list of lists"):
        map_class_to_label([0.9, 0.1])  # type: ignore[list-item]


@pytest.mark.parametrize(
    ("settings", "names"),
    [({"handler": {"profile": True}}, ["ts_handler_preprocess"]), ({}, []), ({"handler": "x"}, [])],
)
def test_steps_are_timed_where_the_configuration_asks(
    settings: dict[str, Any], names: list[str]
) -> None:
    class Handler:
        context = Context("m", "/m", {}, 1, None, model_yaml_config=settings)

        @timed
        def preprocess(self, data: int) -> int:
            return data + 1

    assert Handler().preprocess(1) == 2
    lines = Handler.context.metrics.flush()
    assert [line.partition(".")[0].removeprefix("[METRICS]") for line in lines] == names


def test_a_timed_step_needs_no_context() -> None:
    subject = SimpleNamespace()
    assert timed(lambda self, value: value)(subject, 3) == 3
