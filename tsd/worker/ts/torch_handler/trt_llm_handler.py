"""TRTLLMHandler: a language model by TensorRT-LLM, which the runtime needs besides transformers.

For `asyncCommunication: true` and batchSize 1. The model's configuration says under `handler`
where the engine (`engine_dir`) and the tokenizer (`tokenizer_dir`) are, and `kv_cache_config`."""

from __future__ import annotations

import json
import time
from typing import Any

from ts.handler_utils.optional import library
from ts.handler_utils.utils import send_intermediate_predict_response
from ts.torch_handler.base_handler import BaseHandler

NEEDED_FOR = "trt_llm_handler"


class TRTLLMHandler(BaseHandler):
    """Takes `{"prompt": …, "streaming": …}`; all else in it are sampling parameters."""

    def __init__(self) -> None:
        super().__init__()
        self.trt_llm_engine: Any = None
        self.tokenizer: Any = None
        self.model_dir: str | None = None

    def initialize(self, context: Any) -> None:
        """Load the tokenizer and the engine."""
        tensorrt_llm = library("tensorrt_llm", NEEDED_FOR)
        transformers = library("transformers", NEEDED_FOR)
        settings = context.model_yaml_config["handler"]
        self.model_dir = context.system_properties.get("model_dir")
        self.tokenizer = transformers.AutoTokenizer.from_pretrained(
            settings["tokenizer_dir"], padding_side="left", truncation_side="left"
        )
        if self.tokenizer.pad_token_id is None:
            self.tokenizer.pad_token_id = self.tokenizer.eos_token_id
        cache = library("tensorrt_llm.llmapi", NEEDED_FOR).KvCacheConfig
        self.trt_llm_engine = tensorrt_llm.LLM(
            model=settings["engine_dir"],
            tokenizer=self.tokenizer,
            kv_cache_config=cache(**settings.get("kv_cache_config", {})),
        )
        self.initialized = True

    async def handle(self, data: Any, context: Any) -> Any:
        """One request: its text, whole or token by token."""
        begin = time.perf_counter()
        results = await self.inference(await self.preprocess(data), context)
        results = await self.postprocess(results)
        elapsed_ms = (time.perf_counter() - begin) * 1000
        context.metrics.add_time("HandlerTime", round(elapsed_ms, 2), None, "ms")
        return results

    async def preprocess(self, data: Any) -> dict[str, Any]:
        """The request's JSON."""
        if len(data) != 1:
            raise ValueError(f"{len(data)} requests came at once: set batchSize to 1")
        request = data[0].get("data") or data[0].get("body")
        if isinstance(request, str | bytes | bytearray):
            request = json.loads(request)
        return dict(request)

    async def inference(self, data: Any, context: Any) -> list[str]:
        """The text; when it is streamed, its last and empty piece."""
        prompt, is_streamed = data.pop("prompt"), data.pop("streaming", False)
        ends = {"end_id": self.tokenizer.eos_token_id, "pad_id": self.tokenizer.pad_token_id}
        sampling = library("tensorrt_llm", NEEDED_FOR).SamplingParams(**ends | data)
        outputs = self.trt_llm_engine.generate_async(
            prompt, sampling_params=sampling, streaming=is_streamed
        )
        async for output in outputs:
            generated = output.outputs[0]
            if not is_streamed:
                return [generated.text]
            piece = json.dumps({"text": self.tokenizer.decode([generated.token_ids[-1]])})
            send_intermediate_predict_response([piece], context.request_ids, "Result", 200, context)
        return [""]

    async def postprocess(self, data: Any) -> list[Any]:  # type: ignore[override]
        """The answer as it is."""
        return list(data)
