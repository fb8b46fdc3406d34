"""The JSON of OpenAI's completions and chat completions, as far as vllm_handler answers it."""

from __future__ import annotations

import json
import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True)
class Text:
    """What has been generated of one choice; `reason` says why it ended, once it has."""

    index: int
    text: str
    reason: str | None


@dataclass(frozen=True, slots=True)
class Shape:
    """One answer, or the chunks of one."""

    request_id: str
    model: str
    is_chat: bool
    created: int = field(default_factory=lambda: int(time.time()))

    def answer(self, texts: Iterable[Text], prompt_tokens: int, new_tokens: int) -> dict[str, Any]:
        """The answer, whole."""
        kind = "chat.completion" if self.is_chat else "text_completion"
        usage = {
            "prompt_tokens": prompt_tokens,
            "completion_tokens": new_tokens,
            "total_tokens": prompt_tokens + new_tokens,
        }
        return self._frame(kind, [self._choice(text, "message") for text in texts]) | {
            "usage": usage
        }

    def chunk(self, text: Text) -> str:
        """A piece of one choice, as a server-sent event."""
        kind = "chat.completion.chunk" if self.is_chat else "text_completion"
        return f"data: {json.dumps(self._frame(kind, [self._choice(text, 'delta')]))}\n\n"

    def _frame(self, kind: str, choices: list[dict[str, Any]]) -> dict[str, Any]:
        prefix = "chatcmpl" if self.is_chat else "cmpl"
        return {
            "id": f"{prefix}-{self.request_id}",
            "object": kind,
            "created": self.created,
            "model": self.model,
            "choices": choices,
        }

    def _choice(self, text: Text, part: str) -> dict[str, Any]:
        said: dict[str, Any] = {"text": text.text}
        if self.is_chat:
            said = {part: {"role": "assistant", "content": text.text}}
        return {"index": text.index, **said, "logprobs": None, "finish_reason": text.reason}


def models(names: Iterable[str]) -> dict[str, Any]:
    """The answer that lists the models."""
    data = [{"id": name, "object": "model", "created": 0, "owned_by": "tsd"} for name in names]
    return {"object": "list", "data": data}
