"""VLLMHandler: a language model by vLLM, asked as OpenAI's API is; the runtime needs vllm.

For `asyncCommunication: true` and batchSize 1. `/predictions/MODEL/VERSION/v1/completions`,
`…/v1/chat/completions` and `…/v1/models` are served. The model's configuration names under
`handler` the weights (`model_path`, or `model` in `vllm_engine_config`), the engine's arguments
(`vllm_engine_config`), LoRA `adapters` and a `chat_template`."""

from __future__ import annotations

import json
import os
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

from ts.handler_utils.optional import library
from ts.handler_utils.utils import send_intermediate_predict_response
from ts.torch_handler.base_handler import BaseHandler
from ts.torch_handler.openai_shapes import Shape, Text, models
from ts.utils.util import PredictionException

NEEDED_FOR = "vllm_handler"

ENDPOINTS = {"v1/completions": False, "v1/chat/completions": True}

# What of a request is vLLM's SamplingParams'.
SAMPLING = {
    *("temperature", "top_p", "top_k", "min_p", "n", "seed", "stop", "stop_token_ids"),
    *("max_tokens", "min_tokens", "ignore_eos", "skip_special_tokens"),
    *("presence_penalty", "frequency_penalty", "repetition_penalty"),
}


class VLLMHandler(BaseHandler):
    """Each request runs in vLLM's own batches, which join and leave between steps."""

    def __init__(self) -> None:
        super().__init__()
        self.vllm_engine: Any = None
        self.tokenizer: Any = None
        self.model_dir = ""
        self.model_name = ""
        self.chat_template: str | None = None
        self.adapters: dict[str, str] = {}

    def initialize(self, context: Any) -> None:
        """Start the engine."""
        vllm = library("vllm", NEEDED_FOR)
        settings = context.model_yaml_config.get("handler", {})
        self.model_dir = context.system_properties.get("model_dir")
        arguments = vllm.AsyncEngineArgs(**self._get_vllm_engine_config(settings))
        # Workers are forked from a process that imported torch; the engine's must not be.
        os.environ.setdefault("VLLM_WORKER_MULTIPROC_METHOD", "spawn")
        self.vllm_engine = vllm.AsyncLLMEngine.from_engine_args(arguments)
        self.tokenizer = library("transformers", NEEDED_FOR).AutoTokenizer.from_pretrained(
            arguments.tokenizer or arguments.model
        )
        served = arguments.served_model_name or arguments.model
        self.model_name = served if isinstance(served, str) else served[0]
        self.chat_template = settings.get("chat_template")
        self.adapters = settings.get("adapters", {})
        self.initialized = True

    async def handle(self, data: Any, context: Any) -> Any:
        """One request: its answer, whole or as events."""
        begin = time.perf_counter()
        results = await self.inference(await self.preprocess(data, context), context)
        results = await self.postprocess(results)
        elapsed_ms = (time.perf_counter() - begin) * 1000
        context.metrics.add_time("HandlerTime", round(elapsed_ms, 2), None, "ms")
        return results

    async def preprocess(self, data: Any, context: Any) -> list[Any]:  # type: ignore[override]
        """The request's JSON."""
        if len(data) != 1:
            raise ValueError(f"{len(data)} requests came at once: set batchSize to 1")
        request = data[0].get("data") or data[0].get("body")
        if isinstance(request, str | bytes | bytearray):
            try:
                request = json.loads(request or "{}")
            except ValueError as error:
                raise PredictionException(f"The body is no JSON: {error}", 400) from error
        return [request]

    async def inference(self, data: Any, context: Any) -> list[Any]:
        """What the path asks for."""
        path = context.get_request_header(0, "url_path")
        if path == "v1/models":
            return [models([self.model_name, *self.adapters])]
        if path not in ENDPOINTS:
            raise PredictionException(f"Unknown API endpoint: {path}", 404)
        request, name = data[0], data[0].get("model") or self.model_name
        shape = Shape(context.get_request_id(0), name, is_chat=ENDPOINTS[path])
        outputs = self._generate(request, shape)
        if not request.get("stream"):
            return [await _whole(outputs, shape)]
        async for text in _pieces(outputs):
            ids = context.request_ids
            send_intermediate_predict_response([shape.chunk(text)], ids, "Result", 200, context)
        return ["data: [DONE]\n\n"]

    async def postprocess(self, data: Any) -> list[Any]:  # type: ignore[override]
        """The answer as it is."""
        return list(data)

    def _generate(self, request: dict[str, Any], shape: Shape) -> AsyncIterator[Any]:
        vllm = library("vllm", NEEDED_FOR)
        wanted = {name: value for name, value in request.items() if name in SAMPLING}
        if shape.is_chat:
            # A chat's answer is as long as the model makes it, unless the request says otherwise.
            wanted.setdefault("max_tokens", request.get("max_completion_tokens"))
        try:
            prompt, sampling = self._prompt(request, shape.is_chat), vllm.SamplingParams(**wanted)
        except (ValueError, TypeError, KeyError) as error:
            raise PredictionException(f"The request is not understood: {error!r}", 400) from error
        lora = self._lora(shape.model)
        outputs: AsyncIterator[Any] = self.vllm_engine.generate(
            prompt, sampling, shape.request_id, lora_request=lora
        )
        return outputs

    def _prompt(self, request: dict[str, Any], is_chat: bool) -> Any:  # noqa: FBT001 (a field's)
        if not is_chat:
            prompt = request["prompt"]
            return {"prompt_token_ids": prompt} if isinstance(prompt, list) else prompt
        # As numbers: a text would be given its first mark twice.
        numbers = self.tokenizer.apply_chat_template(
            request["messages"],
            chat_template=self.chat_template,
            add_generation_prompt=True,
            tokenize=True,
            return_dict=False,
        )
        return {"prompt_token_ids": list(numbers)}

    def _lora(self, name: str) -> Any:
        if name == self.model_name:
            return None
        if name not in self.adapters:
            raise PredictionException(f"The model {name} does not exist.", 404)
        number = 1 + list(self.adapters).index(name)
        request = library("vllm.lora.request", NEEDED_FOR).LoRARequest
        return request(name, number, str(Path(self.model_dir, self.adapters[name])))

    def _get_vllm_engine_config(self, handler_config: dict[str, Any]) -> dict[str, Any]:
        """The engine's arguments, with the folder of the model where the archive has it."""
        arguments = dict(handler_config.get("vllm_engine_config") or {})
        if not arguments.get("model"):
            path = handler_config.get("model_path")
            if not path:
                raise ValueError("model-config.yaml has neither model_path nor the engine's model")
            own = Path(self.model_dir, path)
            arguments["model"] = str(own) if own.exists() else path
        return arguments


async def _whole(outputs: AsyncIterator[Any], shape: Shape) -> dict[str, Any]:
    async for output in outputs:
        last = output
    texts = [Text(each.index, each.text, each.finish_reason) for each in last.outputs]
    new_tokens = sum(len(each.token_ids) for each in last.outputs)
    return shape.answer(texts, len(last.prompt_token_ids), new_tokens)


async def _pieces(outputs: AsyncIterator[Any]) -> AsyncIterator[Text]:
    """What each output has more than the one before it."""
    sent: dict[int, str] = {}
    async for output in outputs:
        for each in output.outputs:
            before = sent.get(each.index, "")
            sent[each.index] = each.text
            if each.text != before or each.finish_reason:
                yield Text(each.index, each.text[len(before) :], each.finish_reason)
