"""Text to tokens, as torchtext's tokenizer of the same name does it, and tokens to n-grams."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

Tokenizer = Callable[[str], list[str]]

# Marks that are tokens of their own, and marks that only part tokens.
_MARKS = str.maketrans({mark: f" {mark} " for mark in "'.,()!?"} | {";": " ", ":": " "})


def ngrams_iterator(token_list: Sequence[str], ngrams: int) -> Iterator[str]:
    """All tokens, then all pairs of neighbours, and so on up to `ngrams` of them."""
    for length in range(1, ngrams + 1):
        for begin in range(len(token_list) - length + 1):
            yield " ".join(token_list[begin : begin + length])


def get_tokenizer(tokenizer: Any, language: str = "en") -> Tokenizer:
    """By name (`basic_english`), None for white space alone, or a function of the caller's own."""
    if tokenizer is None:
        return str.split
    if callable(tokenizer):
        chosen: Tokenizer = tokenizer
        return chosen
    if tokenizer != "basic_english":
        raise ValueError(f"tokenizer {tokenizer!r} is neither basic_english nor a function")
    if language != "en":
        raise ValueError(f"basic_english is for English (en), not for {language!r}")
    return _basic_english


def _basic_english(line: str) -> list[str]:
    plain = line.lower().replace('"', "").replace("<br />", " ")
    return plain.translate(_MARKS).split()
