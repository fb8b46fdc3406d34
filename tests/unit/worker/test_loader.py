"""Entry points follow TorchServe's rules; whatever a handler does, each request is answered."""

import asyncio
import json
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tsd.ipc.layout import Outcome, RequestEntry, pack_fields
from tsd.worker.codec import Answer, answers_with
from tsd.worker.loader import LoadedModel

Load = Callable[..., LoadedModel]

ECHO = """
class H:
    def initialize(self, context): self.properties = context.system_properties
    def handle(self, data, context):
        return [{"row": repr(row), "id": context.get_request_id(i),
                 "headers": context.get_all_request_header(i), "rows": len(data)}
                for i, row in enumerate(data)]
"""

# Does with each request what its x-mode header says.
MODES = """
import sys
from ts.utils.util import PredictionException
from ts.handler_utils.utils import send_intermediate_predict_response
class H:
    def initialize(self, context): pass
    def handle(self, data, context):
        modes = [context.get_request_header(i, "x-mode") for i in range(len(data))]
        return [self.one(i, context, mode) for i, mode in enumerate(modes)]
    def one(self, i, context, mode):
        if mode == "raise": raise ValueError("boom")
        if mode == "cuda": raise RuntimeError("CUDA out of memory. fake")
        if mode == "memory": raise MemoryError
        if mode == "refuse": raise PredictionException("teapot", 418)
        if mode == "refuse one": return PredictionException("nope", 404)
        if mode == "refuse default": raise PredictionException("dflt")
        if mode == "exit": sys.exit(5)
        if mode == "set": return {1}
        if mode == "surrogate": return "\\ud800"
        if mode == "type": context.set_response_content_type(i, "application/json")
        if mode == "header": context.set_response_header(i, "X-My-Header", "v1")
        if mode == "status": context.set_response_status(code=202, phrase="Very Accepted", idx=i)
        if mode == "status 400": context.set_response_status(400, "Bad", i)
        if mode == "all": context.set_all_response_status(503, "later")
        if mode == "stream":
            for piece in ("chunk0 ", "chunk1 "):
                ids = context.request_ids
                send_intermediate_predict_response([piece], ids, "m", 200, context)
        return "ok"
"""


def request(body: bytes = b"x", request_id: str = "id", **headers: str) -> RequestEntry:
    pairs = [(name.replace("_", "-").encode(), value.encode()) for name, value in headers.items()]
    return RequestEntry(1, request_id.encode(), pack_fields(pairs), memoryview(body))


def run(model: LoadedModel, *requests: RequestEntry) -> list[Answer]:
    return answers_with(model.run(requests))


def run_modes(load_handler: Load, *modes: str) -> list[Answer]:
    return run(load_handler(MODES), *(request(x_mode=mode) for mode in modes))


def test_a_class_gets_each_request_with_its_own_id_and_headers(load_handler: Load) -> None:
    model = load_handler(ECHO)
    answers = run(model, request(b"a", "id0", X_N="0"), request(b"b", "id1", X_N="1"))
    first, second = (json.loads(bytes(answer.body)) for answer in answers)
    assert first["row"] == "{'body': bytearray(b'a')}"
    assert (first["id"], second["id"]) == ("id0", "id1")
    assert (first["headers"]["X-N"], second["headers"]["X-N"]) == ("0", "1")
    assert first["rows"] == 2


def test_a_batch_knows_nothing_of_the_one_before(load_handler: Load) -> None:
    model = load_handler(MODES)
    assert run(model, request(x_mode="status 400"))[0].status == 400
    assert run(model, request())[0] == Answer(Outcome.OK, body=b"ok")


def test_the_context_describes_the_model(load_handler: Load, tmp_path: Path) -> None:
    model = load_handler(ECHO, model_yaml={"batchSize": 4}, limit_max_image_pixels=False)
    assert model.context.model_name == "m"
    assert model.context.model_yaml_config == {"batchSize": 4}
    assert model.context.system_properties == {
        "model_dir": str(tmp_path),
        "gpu_id": None,
        "batch_size": 4,
        "server_name": "MMS",
        "server_version": "0.12.0",
        "limit_max_image_pixels": False,
    }


def test_the_model_directory_is_where_handlers_look_first(
    load_handler: Load, tmp_path: Path
) -> None:
    (tmp_path / "beside.py").write_text("ANSWER = 'beside'")
    (tmp_path / "data.txt").write_text("data")
    source = """
import beside, pathlib
def handle(data, context): return [beside.ANSWER + pathlib.Path("data.txt").read_text()]
"""
    assert run(load_handler(source), request())[0].body == b"besidedata"


@pytest.mark.parametrize("handler", ["h.py", "h", "h:handle", "some/folder/h.py:handle"])
def test_a_function_is_called_once_at_load_without_data(load_handler: Load, handler: str) -> None:
    source = (
        "calls = []\ndef handle(data, context):\n calls.append(data)\n return data and [calls[0]]"
    )
    assert run(load_handler(source, handler), request())[0].body == b"null"


def test_the_function_may_be_named(load_handler: Load) -> None:
    source = (
        "def predict(data, context): return data and ['predict']\ndef handle(data, context): 1 / 0"
    )
    assert run(load_handler(source, "h:predict"), request())[0].body == b"predict"


def test_the_name_of_a_method_falls_back_to_the_class(load_handler: Load) -> None:
    assert run(load_handler(ECHO, "h.py:handle"), request())[0].outcome is Outcome.OK


def test_imported_classes_do_not_count(load_handler: Load) -> None:
    source = "from collections import OrderedDict\nfrom pathlib import Path\n" + ECHO
    assert run(load_handler(source), request())[0].outcome is Outcome.OK


def test_a_handler_may_replace_handle_while_it_initializes(load_handler: Load) -> None:
    source = """
class H:
    def initialize(self, context): self.handle = lambda data, context: ["new"]
    def handle(self, data, context): return ["old"]
"""
    assert run(load_handler(source), request())[0].body == b"new"


@pytest.mark.parametrize(
    ("source", "words"),
    [
        ("class A: pass\nclass B: pass", "it defines 2 classes"),
        ("x = 1", "it defines 0 classes"),
        ("class A:\n def initialize(self, context): pass", "no method named handle"),
    ],
)
def test_a_file_without_one_entry_point_is_refused(
    load_handler: Load, source: str, words: str
) -> None:
    with pytest.raises(ValueError, match=words):
        load_handler(source)


def test_what_the_handlers_module_lacks_is_named(load_handler: Load) -> None:
    with pytest.raises(ImportError, match="surely_not_installed"):
        load_handler("import surely_not_installed")


def test_a_name_that_is_neither_file_nor_default_handler_is_named(load_handler: Load) -> None:
    with pytest.raises(ModuleNotFoundError, match="no_such_handler"):
        load_handler("", "no_such_handler")


def test_what_initialize_raises_reaches_the_caller(load_handler: Load) -> None:
    with pytest.raises(ZeroDivisionError):
        load_handler("def handle(data, context): 1 / 0")


@pytest.mark.parametrize(
    ("mode", "outcome"),
    [
        ("raise", Outcome.RAISED),
        ("cuda", Outcome.OUT_OF_MEMORY),
        ("memory", Outcome.OUT_OF_MEMORY),
    ],
)
def test_a_raise_fails_the_whole_batch(load_handler: Load, mode: str, outcome: Outcome) -> None:
    answers = run_modes(load_handler, "ok", mode, "ok")
    assert [answer.outcome for answer in answers] == [outcome] * 3
    assert "Traceback" in answers[0].message


def test_a_raised_refusal_answers_the_whole_batch(load_handler: Load) -> None:
    for answer in run_modes(load_handler, "ok", "refuse"):
        assert (answer.outcome, answer.status) == (Outcome.REFUSED, 418)
        assert answer.message == "teapot"


def test_a_refusal_without_a_status_is_500(load_handler: Load) -> None:
    assert run_modes(load_handler, "refuse default")[0].status == 500


def test_a_returned_refusal_answers_its_request_alone(load_handler: Load) -> None:
    first, second = run_modes(load_handler, "refuse one", "ok")
    assert (first.outcome, first.status, first.message) == (Outcome.REFUSED, 404, "nope")
    assert second == Answer(Outcome.OK, body=b"ok")


@pytest.mark.parametrize("mode", ["set", "surrogate"])
def test_a_result_that_cannot_be_sent_fails_its_request_alone(
    load_handler: Load, mode: str
) -> None:
    first, second = run_modes(load_handler, mode, "ok")
    assert first.outcome is Outcome.BAD_OUTPUT
    assert first.message == "Unsupported model output data type."
    assert second.outcome is Outcome.OK


@pytest.mark.parametrize(
    ("returned", "message"),
    [
        ("{'a': 1}", "Invalid model predict output"),
        ("('a',)", "Invalid model predict output"),
        ("None", "Invalid model predict output"),
        ("[1, 2, 3]", "number of batch response mismatched"),
        ("[]", "number of batch response mismatched"),
    ],
)
def test_results_that_are_not_one_for_each_request_fail_the_batch(
    load_handler: Load, returned: str, message: str
) -> None:
    model = load_handler(f"def handle(data, context): return {returned}")
    answers = run(model, request(), request())
    assert {(answer.outcome, answer.message) for answer in answers} == {
        (Outcome.BAD_OUTPUT, message)
    }


def test_what_a_handler_sets_belongs_to_its_request(load_handler: Load) -> None:
    typed, headed, status = run_modes(load_handler, "type", "header", "status")
    assert typed.headers == [("content-type", "application/json")]
    assert headed.headers == [("X-My-Header", "v1")]
    assert (status.status, status.reason, status.headers) == (202, "Very Accepted", [])


def test_a_status_that_is_an_error_keeps_the_handlers_body(load_handler: Load) -> None:
    answer = run_modes(load_handler, "status 400")[0]
    assert (answer.outcome, answer.status, answer.body) == (Outcome.OK, 400, b"ok")


def test_a_status_for_all_is_for_all(load_handler: Load) -> None:
    assert [answer.status for answer in run_modes(load_handler, "ok", "all")] == [503, 503]


def test_pieces_of_an_answer_go_out_before_the_last(load_handler: Load) -> None:
    sent: list[object] = []

    class Sender:
        def send(self, results: list[str], request_ids: dict[int, str], _: object) -> None:
            sent.append((results, request_ids))

    model = load_handler(MODES)
    model.context.part_sender = Sender()
    assert run(model, request(x_mode="stream"))[0].body == b"ok"
    assert sent == [(["chunk0 "], {0: "id"}), (["chunk1 "], {0: "id"})]


def test_parameters_come_before_the_body_and_named_inputs_in_its_place(load_handler: Load) -> None:
    model = load_handler(ECHO)
    with_query = RequestEntry(1, b"i", pack_fields([(b"?q", b"1")]), b"x")
    named = RequestEntry(2, b"i", pack_fields([(b"<first", b"2"), (b"<second", b"3")]), b"abcde")
    answers = [json.loads(bytes(answer.body)) for answer in run(model, with_query, named)]
    assert answers[0]["row"] == "{'q': bytearray(b'1'), 'body': bytearray(b'x')}"
    assert list(answers[0]["headers"])[:2] == ["q", "body"]
    assert answers[1]["row"] == "{'first': bytearray(b'ab'), 'second': bytearray(b'cde')}"
    assert answers[1]["headers"] == {"first": {"content-type": ""}, "second": {"content-type": ""}}


@pytest.mark.parametrize(
    ("settings", "kind"),
    [
        ({}, "bytearray"),
        ({"model_yaml": {"bodyViews": True}}, "memoryview"),
        ({"model_yaml": {"bodyViews": "yes"}}, "bytearray"),
        ({"model_yaml": {"bodyViews": True}, "envelope": "body"}, "bytearray"),
    ],
)
def test_a_model_may_ask_for_views_of_its_bodies(
    load_handler: Load, settings: dict[str, Any], kind: str
) -> None:
    source = """
def handle(data, context):
    return [f"{type(row.get('body') if isinstance(row, dict) else row).__name__}"
            for row in data or ()]
"""
    assert run(load_handler(source, **settings), request(b"ab"))[0].body == kind.encode()


def test_a_view_may_be_an_answer(load_handler: Load) -> None:
    source = "def handle(data, context):\n    return [row['body'][1:] for row in data or ()]"
    model = load_handler(source, model_yaml={"bodyViews": True})
    assert run(model, request(b"abc"))[0].body == b"bc"


def test_a_broken_form_is_refused_and_the_others_are_served(load_handler: Load) -> None:
    model = load_handler(MODES)
    broken = request(b"junk", content_type="multipart/form-data; boundary=B")
    answers = run(model, broken, request(), broken, request())
    assert [answer.status for answer in answers] == [400, 200, 400, 200]
    assert [answer.status for answer in run(model, broken)] == [400]


def test_an_exit_is_not_caught(load_handler: Load) -> None:
    with pytest.raises(SystemExit):
        run_modes(load_handler, "exit")


@pytest.mark.parametrize("error", [KeyboardInterrupt, asyncio.CancelledError])
def test_what_ends_a_process_is_not_caught(load_handler: Load, error: type[BaseException]) -> None:
    model = load_handler("def handle(data, context): return [1]")

    def handle(data: Any, context: Any) -> Any:
        raise error

    model.handle = handle
    with pytest.raises(error):
        run(model, request())


def test_a_copy_of_the_context_shapes_the_answers_too(load_handler: Load) -> None:
    source = """
import copy
def handle(data, context):
    if data:
        copy.copy(context).set_response_status(418, "Teapot", 0)
    return ["ok"] * len(data or ())
"""
    assert [answer.status for answer in run(load_handler(source), request(), request())] == [
        418,
        200,
    ]


def test_between_batches_no_inputs_are_kept(load_handler: Load) -> None:
    kept: list[weakref.ref[Any]] = []

    class Large(dict[str, Any]):
        """A row's value that can be watched."""

    def handle(data: list[dict[str, Any]], _context: object) -> list[str]:
        data[0]["body"] = Large()
        kept.append(weakref.ref(data[0]["body"]))
        return ["ok"]

    model = load_handler("def handle(data, context): return []")
    model.handle = handle
    run(model, request(b"x"))
    assert len(model.context.request_processor) == 1
    assert [large() for large in kept] == [None]
