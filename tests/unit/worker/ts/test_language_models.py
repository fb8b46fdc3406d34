"""Handlers of language models, with stand-ins for the libraries, which no test machine has."""

import asyncio
import json
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from ts.context import Context
from ts.llm_launcher import create_mar_file, parser
from ts.torch_handler.trt_llm_handler import TRTLLMHandler
from ts.torch_handler.vllm_handler import VLLMHandler
from ts.utils.hf_utils import download_model
from ts.utils.util import PredictionException

from tests.unit.worker.ts.contexts import asked, context_of

WORDS = ["Hello", " big", " world"]


class Sent:
    """Stands for a worker's way out: keeps the pieces."""

    def __init__(self) -> None:
        self.pieces: list[Any] = []

    def send(self, results: Any, request_ids: Any, processors: Any) -> None:
        self.pieces += results


class Sampling:
    def __init__(self, **values: Any) -> None:
        if values.get("temperature", 0) < 0:
            raise ValueError("temperature must be non-negative")
        self.values = values


class Engine:
    """Says WORDS, word by word, to anything."""

    def __init__(self) -> None:
        self.calls: list[SimpleNamespace] = []

    def generate(
        self, prompt: Any, sampling: Sampling, request_id: str, lora_request: Any = None
    ) -> AsyncIterator[Any]:
        self.calls.append(
            SimpleNamespace(prompt=prompt, sampling=sampling.values, lora=lora_request)
        )
        return self._outputs()

    async def _outputs(self) -> AsyncIterator[Any]:
        for count in range(1, len(WORDS) + 1):
            reason = "stop" if count == len(WORDS) else None
            text = "".join(WORDS[:count])
            choice = SimpleNamespace(
                index=0, text=text, token_ids=[*range(count)], finish_reason=reason
            )
            yield SimpleNamespace(prompt_token_ids=[1, 2], outputs=[choice])


class Tokenizer:
    pad_token_id = None
    eos_token_id = 7

    def apply_chat_template(self, messages: Any, **options: Any) -> list[int]:
        assert options["add_generation_prompt"]
        return [len(message["content"]) for message in messages]

    def decode(self, numbers: list[int]) -> str:
        return WORDS[numbers[0]]


@pytest.fixture
def engine(monkeypatch: pytest.MonkeyPatch) -> Engine:
    """The engine that handlers will start, and their libraries."""
    made = Engine()
    auto = SimpleNamespace(from_pretrained=lambda *names, **options: Tokenizer())
    libraries: dict[str, Any] = {
        "vllm": SimpleNamespace(
            AsyncEngineArgs=lambda **given: SimpleNamespace(
                **{"tokenizer": None, "served_model_name": None} | given
            ),
            AsyncLLMEngine=SimpleNamespace(from_engine_args=lambda arguments: made),
            SamplingParams=Sampling,
        ),
        "vllm.lora.request": SimpleNamespace(LoRARequest=lambda *given: given),
        "transformers": SimpleNamespace(AutoTokenizer=auto),
    }
    for name, library in libraries.items():
        monkeypatch.setitem(sys.modules, name, library)
    return made


def vllm(context: Context) -> VLLMHandler:
    handler = VLLMHandler()
    handler.initialize(context)
    return handler


def ask(handler: Any, context: Context, path: str, body: Any) -> list[Any]:
    context = asked(context, url_path=path)
    context.part_sender = Sent()
    answers: list[Any] = asyncio.run(handler.handle([{"body": body}], context))
    return answers


@pytest.fixture
def context(tmp_path: Path) -> Context:
    settings = {
        "model_path": "weights",
        "vllm_engine_config": {"max_model_len": 9},
        "adapters": {"poet": "adapters/poet"},
    }
    return context_of(tmp_path, handler=settings)


def test_a_completion_is_answered_as_openai_does(engine: Engine, context: Context) -> None:
    body = {"prompt": "Hi", "max_tokens": 3, "unknown": True}
    (answer,) = ask(vllm(context), context, "v1/completions", body)
    assert answer.pop("created") > 0
    assert answer == {
        "id": "cmpl-id0",
        "object": "text_completion",
        "model": "weights",
        "choices": [
            {"index": 0, "text": "Hello big world", "logprobs": None, "finish_reason": "stop"}
        ],
        "usage": {"prompt_tokens": 2, "completion_tokens": 3, "total_tokens": 5},
    }
    assert (engine.calls[0].prompt, engine.calls[0].sampling) == ("Hi", {"max_tokens": 3})


def test_a_chat_is_given_to_the_model_by_its_template(engine: Engine, context: Context) -> None:
    body = json.dumps({"messages": [{"role": "user", "content": "Hi"}]})
    (answer,) = ask(vllm(context), context, "v1/chat/completions", body)
    assert answer["choices"][0]["message"] == {"role": "assistant", "content": "Hello big world"}
    assert engine.calls[0].prompt == {"prompt_token_ids": [2]}
    assert engine.calls[0].sampling == {"max_tokens": None}


@pytest.mark.parametrize("path", ["v1/completions", "v1/chat/completions"])
def test_a_stream_is_events_of_what_is_new(engine: Engine, context: Context, path: str) -> None:
    body = {"prompt": [1, 2], "messages": [], "stream": True}
    assert ask(vllm(context), context, path, body) == ["data: [DONE]\n\n"]
    events = [json.loads(piece.removeprefix("data: ")) for piece in context.part_sender.pieces]
    choices = [event["choices"][0] for event in events]
    assert [each.get("text") or each["delta"]["content"] for each in choices] == WORDS
    assert [each["finish_reason"] for each in choices] == [None, None, "stop"]


def test_an_adapter_is_a_model_of_its_own(engine: Engine, context: Context, tmp_path: Path) -> None:
    handler = vllm(context)
    ask(handler, context, "v1/completions", {"prompt": "", "model": "poet"})
    assert engine.calls[0].lora == ("poet", 1, str(tmp_path / "adapters/poet"))
    (answer,) = ask(handler, context, "v1/models", b"")
    assert [model["id"] for model in answer["data"]] == ["weights", "poet"]


@pytest.mark.parametrize(
    ("path", "body", "status"),
    [
        ("v1/embeddings", {}, 404),
        ("", {}, 404),
        ("v1/completions", {"prompt": "", "model": "other"}, 404),
        ("v1/completions", {}, 400),
        ("v1/completions", {"prompt": "", "temperature": -1}, 400),
        ("v1/completions", b"{", 400),
    ],
)
def test_what_cannot_be_asked_is_refused(
    engine: Engine, context: Context, path: str, body: Any, status: int
) -> None:
    with pytest.raises(PredictionException) as caught:
        ask(vllm(context), context, path, body)
    assert caught.value.error_code == status


def test_the_model_is_the_archives_own_where_it_has_one(
    engine: Engine, context: Context, tmp_path: Path
) -> None:
    (tmp_path / "weights").mkdir()
    assert vllm(context).model_name == str(tmp_path / "weights")
    with pytest.raises(ValueError, match="neither model_path"):
        vllm(context_of(tmp_path))


def test_a_missing_library_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(sys.modules, "vllm", None)
    monkeypatch.setitem(sys.modules, "tensorrt_llm", None)
    with pytest.raises(ImportError, match="vllm_handler needs vllm"):
        VLLMHandler().initialize(context_of(tmp_path))
    with pytest.raises(ImportError, match="trt_llm_handler needs tensorrt_llm"):
        TRTLLMHandler().initialize(context_of(tmp_path))


@pytest.mark.parametrize(
    ("body", "answer", "pieces"),
    [
        ({"prompt": "Hi", "max_tokens": 3}, ["Hello"], []),
        (
            b'{"prompt": "Hi", "streaming": true}',
            [""],
            [json.dumps({"text": word}) for word in WORDS],
        ),
    ],
)
def test_tensorrt_llm_answers_whole_or_token_by_token(
    engine: Engine,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    body: Any,
    answer: Any,
    pieces: Any,
) -> None:
    library: Any = SimpleNamespace(
        LLM=lambda **given: SimpleNamespace(
            generate_async=lambda prompt, sampling_params, streaming: engine.generate(
                prompt, sampling_params, ""
            )
        ),
        SamplingParams=Sampling,
        KvCacheConfig=dict,
    )
    monkeypatch.setitem(sys.modules, "tensorrt_llm", library)
    monkeypatch.setitem(sys.modules, "tensorrt_llm.llmapi", library)
    handler, settings = TRTLLMHandler(), {"engine_dir": "e", "tokenizer_dir": "t"}
    context = context_of(tmp_path, handler=settings)
    handler.initialize(context)
    assert ask(handler, context, "", body) == answer
    assert context.part_sender.pieces == pieces
    assert engine.calls[0].sampling["end_id"] == 7


def test_the_launcher_writes_a_model_directory_and_removes_it(tmp_path: Path) -> None:
    yaml = pytest.importorskip("yaml")
    options = ["--model_store", str(tmp_path), "--model_id", "org/model"]
    with create_mar_file(parser().parse_args(options)) as folder:
        config = yaml.safe_load(Path(folder, "model-config.yaml").read_text())
        manifest = json.loads(Path(folder, "MAR-INF", "MANIFEST.json").read_text())
    assert manifest["model"]["handler"] == "vllm_handler"
    assert config["asyncCommunication"] is True
    assert config["handler"]["model_path"] == "org/model"
    assert not Path(folder).exists()


def test_the_launcher_keeps_a_directory_that_it_did_not_write(tmp_path: Path) -> None:
    (tmp_path / "model").mkdir()
    arguments = parser().parse_args(["--model_store", str(tmp_path), "--engine", "trt_llm"])
    with create_mar_file(arguments, "/snapshot") as folder:
        assert list(Path(folder).iterdir()) == []
    assert Path(folder).exists()


class Letters:
    """Stands for a tokenizer: a number is a letter of the alphabet."""

    def decode(self, numbers: Any, **options: Any) -> str:
        return "".join(chr(96 + int(number)) for number in numbers)


def test_a_batch_of_texts_streams_row_by_row() -> None:
    torch = pytest.importorskip("torch")
    pytest.importorskip("transformers")
    from ts.handler_utils.hf_batch_streamer import TextIteratorStreamerBatch

    streamer = TextIteratorStreamerBatch(Letters(), 2, timeout=10)
    with pytest.raises(ValueError, match="1 rows came, the streamer is for 2"):
        streamer.put(torch.tensor([1]))
    for numbers in ([1, 2], [3, 4]):
        streamer.put(torch.tensor(numbers))
    streamer.end()
    rows = list(streamer)
    assert ["".join(row[index]["text"] for row in rows) for index in (0, 1)] == ["ac", "bd"]


def test_a_model_of_the_hub_is_fetched_without_what_no_one_loads(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    hub: Any = SimpleNamespace(snapshot_download=lambda **given: given)
    monkeypatch.setitem(sys.modules, "huggingface_hub", hub)
    given: Any = download_model("org/model", model_path="cache")
    assert (given["repo_id"], given["revision"], given["cache_dir"]) == (
        "org/model",
        "main",
        "cache",
    )
    assert "*.safetensors" in given["allow_patterns"]
