"""Texts of a batch, piece by piece, while a Hugging Face model generates them."""

from __future__ import annotations

from typing import Any

from transformers.generation.streamers import BaseStreamer, TextIteratorStreamer


class TextIteratorStreamerBatch(BaseStreamer):
    """A streamer for `generate`: iterating gives `{"text": …}` for each row, until one ends."""

    def __init__(
        self,
        tokenizer: Any,
        batch_size: int,
        skip_prompt: bool = False,  # noqa: FBT001, FBT002 (TorchServe's signature)
        timeout: float | None = None,
        **decode_kwargs: Any,
    ) -> None:
        self.batch_size = batch_size
        self.streamers = [
            TextIteratorStreamer(tokenizer, skip_prompt, timeout, **decode_kwargs)
            for _ in range(batch_size)
        ]

    def put(self, value: Any) -> None:
        """The next token of each row."""
        if len(value) != self.batch_size:
            raise ValueError(f"{len(value)} rows came, the streamer is for {self.batch_size}")
        for index, streamer in enumerate(self.streamers):
            streamer.put(value[index : index + 1])  # type: ignore[no-untyped-call]

    def end(self) -> None:
        """No more tokens."""
        for streamer in self.streamers:
            streamer.end()  # type: ignore[no-untyped-call]

    def __iter__(self) -> TextIteratorStreamerBatch:
        return self

    def __next__(self) -> list[dict[str, str]]:
        return [{"text": next(streamer)} for streamer in self.streamers]
