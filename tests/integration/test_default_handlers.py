"""Archives with default handlers and with handlers that extend them, served by a daemon: their
answers are those of the same files in this process."""

from __future__ import annotations

import base64
import io
import json
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

from tests.support.archives import by_the_archiver, make_archive
from tests.support.daemon import RunningDaemon, running
from tsctl.commands.pack import PackRequest, pack
from tsd.worker.zygote import carry_ts_package

if "ts" not in sys.modules:
    carry_ts_package()

# TorchScript is on its way out of torch; the files that people have must be served all the same.
pytestmark = pytest.mark.filterwarnings("ignore:`torch.jit:DeprecationWarning")

ONE_WORKER = "minWorkers: 1\nmaxWorkers: 1\nbatchSize: 2\nmaxBatchDelay: 20\n"

NET = """
import torch
class Net(torch.nn.Module):
    def __init__(self):
        super().__init__()
        {layers}
    def forward(self, {inputs}):
        return {output}
"""

LABELS = '{"0": ["n0", "red"], "1": ["n1", "green"], "2": ["n2", "blue"]}'


@dataclass(frozen=True)
class Case:
    """An archive, the bodies to send to it, and with which Content-Type."""

    handler: str
    bodies: tuple[bytes, ...]
    content_type: str = "application/octet-stream"
    files: Mapping[str, str] = field(default_factory=dict)
    config: str = ONE_WORKER


def net(output: str, inputs: str = "images", layers: str = "pass") -> dict[str, str]:
    return {"net.py": NET.format(output=output, inputs=inputs, layers=layers)}


def picture(color: str, size: tuple[int, int] = (30, 20)) -> bytes:
    stream = io.BytesIO()
    Image.new("RGB", size, color).save(stream, "PNG")
    return stream.getvalue()


PICTURES = (picture("red"), picture("blue", (300, 280)))

DETECTOR = """[{"boxes": torch.tensor([[0.0, 1.0, 2.0, 3.0]] * 2), "labels": torch.tensor([0, 2]),
                "scores": torch.stack([image[0].max(), image[2].max()])} for image in images]"""

SUBCLASS = """
from PIL import ImageOps
from ts.torch_handler.image_classifier import ImageClassifier
class Inverted(ImageClassifier):
    topk = 1
    def _image(self, row):
        return super()._image(row) * -1
    def postprocess(self, data):
        return [{"best": next(iter(answer))} for answer in super().postprocess(data)]
"""

MICRO = """
from ts.torch_handler.image_classifier import ImageClassifier
from ts.handler_utils.micro_batching import MicroBatching
class Micro(ImageClassifier):
    def __init__(self):
        self.handle = MicroBatching(self)
    def initialize(self, context):
        super().initialize(context)
        settings = context.model_yaml_config["micro_batching"]
        self.handle.parallelism = settings["parallelism"]
        self.handle.micro_batch_size = settings["micro_batch_size"]
"""

MICRO_CONFIG = """
micro_batching: {micro_batch_size: 1, parallelism: {preprocess: 2, inference: 1, postprocess: 1}}
"""

CLASSIFIER = net("images.mean(dim=(2, 3))") | {"index_to_name.json": LABELS}

CASES = {
    "image_classifier": Case("image_classifier", PICTURES, files=CLASSIFIER),
    "image_in_base64": Case(
        "image_classifier",
        tuple(base64.b64encode(body) for body in PICTURES),
        "text/plain",
        files=CLASSIFIER,
    ),
    "compiled": Case(
        "image_classifier",
        PICTURES,
        files=CLASSIFIER,
        config=ONE_WORKER + "pt2: {compile: {enable: true, backend: eager}}\n",
    ),
    "image_segmenter": Case("image_segmenter", PICTURES, files=net('{"out": images}')),
    "object_detector": Case(
        "object_detector", PICTURES, files=net(DETECTOR) | {"index_to_name.json": LABELS}
    ),
    "text_classifier": Case(
        "text_classifier",
        (b"Don't panic!", b"panic"),
        "text/plain",
        files=net(
            "self.embedding(numbers, offsets)",
            "numbers, offsets",
            'self.embedding = torch.nn.EmbeddingBag.from_pretrained(torch.eye(3), mode="sum")',
        ),
        config=ONE_WORKER + "batchSize: 1\n",
    ),
    "subclass": Case("own.py", PICTURES, files=CLASSIFIER | {"own.py": SUBCLASS}),
    "micro_batching": Case(
        "own.py",
        PICTURES,
        files=CLASSIFIER | {"own.py": MICRO},
        config=ONE_WORKER + MICRO_CONFIG,
    ),
}


@pytest.fixture(scope="module")
def daemon(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningDaemon]:
    """One daemon for all archives of this file."""
    with running(tmp_path_factory.mktemp("handlers")) as own:
        yield own


def archive(folder: Path, name: str, case: Case) -> Path:
    """The case's files in the folder, and the archive of them beside it."""
    folder.mkdir(exist_ok=True)
    files = {**case.files, "model-config.yaml": case.config}
    for file, text in files.items():
        (folder / file).write_text(text)
    torch.save({"do": 0, "not": 1, "panic": 2}, folder / "source_vocab.pt")
    extra = [file for file in ("index_to_name.json", "source_vocab.pt") if (folder / file).exists()]
    model = ("--model-file", "net.py") if "net.py" in files else ()
    return by_the_archiver(
        folder,
        name,
        *("--handler", case.handler, *model, "--extra-files", ",".join(extra)),
        *("--config-file", "model-config.yaml"),
    )


# What a process of its own answers: loading a model changes a process for good.
IN_PROCESS = """
import json, sys
import yaml
from tsd.ipc.layout import RequestEntry, pack_fields
from tsd.worker.codec import answers_with
from tsd.worker.loader import LoadArguments, load
from tsd.worker.zygote import carry_ts_package
carry_ts_package()
folder, handler, content_type, *bodies = sys.argv[1:]
config = yaml.safe_load(open(f"{folder}/model-config.yaml"))
manifest = {"model": {"modelName": "m", "modelFile": "net.py"}}
model = load(LoadArguments("m", "1.0", folder, handler, manifest, config, 1, "cpu", None))
for body in bodies:
    fields = pack_fields([(b"Content-Type", content_type.encode())])
    answers = answers_with(model.run([RequestEntry(1, b"i", fields, bytes.fromhex(body))]))
    print(bytes(answers[0].body).hex())
"""


def answers_in_process(folder: Path, case: Case) -> list[bytes]:
    bodies = [body.hex() for body in case.bodies]
    command = [sys.executable, "-c", IN_PROCESS, str(folder), case.handler, case.content_type]
    output = subprocess.run([*command, *bodies], capture_output=True, text=True, check=True).stdout
    lines = output.splitlines()[-len(bodies) :]
    return [bytes.fromhex(line) for line in lines]


@pytest.mark.parametrize("name", CASES)
def test_a_handler_answers_as_in_process(daemon: RunningDaemon, tmp_path: Path, name: str) -> None:
    case = CASES[name]
    daemon.register(archive(tmp_path / "sources", name, case))
    headers = {"Content-Type": case.content_type}
    answers = [daemon.call("POST", f"/predictions/{name}", body, headers) for body in case.bodies]
    assert [answer.status for answer in answers] == [200] * len(answers), answers
    expected = answers_in_process(tmp_path / "sources", case)
    assert [answer.body for answer in answers] == expected
    assert len(set(expected)) == len(expected)


def test_the_answers_are_those_that_the_models_give(daemon: RunningDaemon, tmp_path: Path) -> None:
    names = ("image_classifier", "image_segmenter", "object_detector", "subclass")
    answers: dict[str, Any] = {}
    for name in names:
        model = f"own_{name}"
        daemon.register(archive(tmp_path / model, model, CASES[name]))
        answers[name] = daemon.call("POST", f"/predictions/{model}", picture("red")).json()
    assert next(iter(answers["image_classifier"])) == "red"
    assert {pixel[0] for line in answers["image_segmenter"] for pixel in line} == {0.0}
    assert answers["object_detector"] == [{"red": [0.0, 1.0, 2.0, 3.0], "score": 1.0}]
    assert answers["subclass"] == {"best": "green"}


def test_torchscript_needs_no_model_file(daemon: RunningDaemon, tmp_path: Path) -> None:
    class Brightness(torch.nn.Module):
        def forward(self, images: torch.Tensor) -> torch.Tensor:
            return images.mean(dim=(2, 3))

    example = torch.ones(1, 3, 224, 224)
    script = torch.jit.trace(Brightness().eval(), example)  # type: ignore[no-untyped-call]
    torch.jit.save(script, tmp_path / "model.pt")
    packed = PackRequest(
        model_name="script",
        handler="image_classifier",
        serialized_file=tmp_path / "model.pt",
        export_path=tmp_path,
    )
    daemon.register(pack(packed), initial_workers=1)
    answer = daemon.call("POST", "/predictions/script", picture("blue")).json()
    assert next(iter(answer)) == "2"


def test_an_image_may_come_in_a_form_or_in_json(daemon: RunningDaemon, tmp_path: Path) -> None:
    case, image = CASES["image_classifier"], picture("blue")
    daemon.register(archive(tmp_path / "forms", "forms", case))
    plain = daemon.call("POST", "/predictions/forms", image)
    form = (
        b'--B\r\nContent-Disposition: form-data; name="data"; filename="x.png"\r\n'
        b"Content-Type: image/png\r\n\r\n" + image + b"\r\n--B--\r\n"
    )
    in_form = daemon.call(
        "POST", "/predictions/forms", form, {"Content-Type": "multipart/form-data; boundary=B"}
    )
    text = json.dumps(base64.b64encode(image).decode()).encode()
    in_json = daemon.call("POST", "/predictions/forms", text, {"Content-Type": "application/json"})
    assert plain.status == 200
    assert plain.body == in_form.body == in_json.body


CONTEXT = """
import os
from ts.torch_handler.base_handler import BaseHandler
class Everything(BaseHandler):
    def initialize(self, context):
        self.properties = context.system_properties
        self.model_name = context.manifest["model"]["modelName"]
        self.greeting = context.model_yaml_config["handler"]["greeting"]
        assert os.path.exists(os.path.join(self.properties["model_dir"], "everything_handler.py"))
        context.cache = {"calls": 0}
        self.initialized = True
    def handle(self, data, context):
        self.context = context
        context.cache["calls"] += len(data)
        context.metrics.add_counter("Greetings", len(data))
        context.metrics.add_time("Thinking", 1.5, None, "ms")
        return [self.greet(index, row) for index, row in enumerate(data)]
    def greet(self, index, row):
        name = row["body"].decode()
        self.context.set_response_content_type(index, "text/plain")
        self.context.set_response_header(index, "X-Calls", str(self.context.cache["calls"]))
        if name == "nobody":
            self.context.set_response_status(404, "Nobody", index)
        place = f"on {self.properties['gpu_id']} in batches of {self.properties['batch_size']}"
        asked = self.context.get_request_id(index), self.context.get_request_header(index, "X-Mood")
        return f"{self.greeting}, {name}, says {self.model_name} {place}: {asked}"
"""


def test_a_handler_uses_all_that_its_context_offers(daemon: RunningDaemon, tmp_path: Path) -> None:
    config = ONE_WORKER + "handler: {greeting: Hello}\n"
    daemon.register(make_archive(tmp_path, "everything", CONTEXT, config))
    answer = daemon.call("POST", "/predictions/everything", b"you", {"X-Mood": "fine"})
    request_id = answer.headers["x-request-id"]
    assert answer.body.decode() == (
        f"Hello, you, says everything on None in batches of 2: ('{request_id}', 'fine')"
    )
    assert answer.headers["content-type"] == "text/plain"
    assert answer.headers["x-calls"] == "1"
    refused = daemon.call("POST", "/predictions/everything", b"nobody")
    assert (refused.status, refused.headers["x-calls"]) == (404, "2")
    assert refused.body.startswith(b"Hello, nobody")


ENVELOPED = {
    "body": (b"[1.0, 2.0, 0.0]", b"1"),
    "json": (b'{"instances": [[1, 2, 0], [3, 0, 0]]}', b'{"predictions": [1, 0]}'),
    "kserve": (
        b'{"instances": [[1, 2, 0], [3, 0, 0]]}',
        b'{\n  "predictions": [\n    1,\n    0\n  ]\n}',
    ),
}


@pytest.mark.parametrize("envelope", ENVELOPED)
def test_the_base_handler_is_served_in_an_envelope(tmp_path: Path, envelope: str) -> None:
    body, expected = ENVELOPED[envelope]
    case = Case("base_handler", (), files=net("rows.argmax(dim=1)", "rows"))
    with running(tmp_path, environment={"TSD_SERVING_ENVELOPE": envelope}) as daemon:
        daemon.register(archive(tmp_path / "base", "base", case))
        headers = {"Content-Type": "application/json"}
        answer = daemon.call("POST", "/predictions/base", body, headers)
    assert (answer.status, answer.body) == (200, expected)
