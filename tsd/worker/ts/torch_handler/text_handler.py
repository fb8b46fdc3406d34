"""TextHandler: what handlers of text share: a vocabulary, and the cleaning of what people write."""

from __future__ import annotations

import pickle
import re
import string
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from ts.context import Context
from ts.handler_utils.optional import library
from ts.handler_utils.text_utils import get_tokenizer
from ts.torch_handler.base_handler import BaseHandler
from ts.torch_handler.contractions import CONTRACTION_MAP
from ts.utils.util import CLEANUP_REGEX

CONTRACTIONS_PATTERN = re.compile("|".join(map(re.escape, CONTRACTION_MAP)), re.IGNORECASE)

_NO_PUNCTUATION = str.maketrans("", "", string.punctuation)


class TextHandler(BaseHandler):
    """A handler of text, with the vocabulary in the archive's source_vocab.pt.

    That file holds a dict of words to numbers, or the list of words in the order of theirs."""

    def __init__(self) -> None:
        super().__init__()
        self.source_vocab: Any = None
        self.tokenizer = get_tokenizer("basic_english")
        self.input_text: Any = None

    @cached_property
    def lig(self) -> Any:
        """What explains the model by its embedding; made when first asked for."""
        attributions = library("captum.attr", "an explanation")
        return attributions.LayerIntegratedGradients(self.model, self.model.embedding)

    def initialize(self, context: Context) -> None:
        """Load the model, its labels and its vocabulary."""
        super().initialize(context)
        model_dir = Path(context.system_properties["model_dir"])
        named = self.manifest["model"].get("sourceVocab")
        path = model_dir / named if named else Path(self.get_source_vocab_path(context))
        self.source_vocab = _vocabulary(path)

    def get_source_vocab_path(self, ctx: Context) -> str:
        """Where the archive has its vocabulary."""
        path = Path(ctx.system_properties["model_dir"], "source_vocab.pt")
        if not path.is_file():
            raise RuntimeError("The archive has no source_vocab.pt: add it with --extra-files")
        return str(path)

    def get_word_token(self, input_tokens: Iterable[str]) -> list[str]:
        """Tokens without the mark that byte-pair encoders put before a word."""
        return [token.replace("Ġ", "") for token in input_tokens]

    def summarize_attributions(self, attributions: Any) -> Any:
        """Attributions as shares, scaled by the length of their sums."""
        shares = torch.softmax(attributions, dim=1 if attributions.ndim == 2 else 0)
        return shares / torch.norm(shares.sum(dim=-1))

    def _expand_contractions(self, text: str) -> str:
        return CONTRACTIONS_PATTERN.sub(_expanded, text).replace("'", "")

    def _remove_accented_characters(self, text: str) -> str:
        return unicodedata.normalize("NFKD", text).encode("ascii", "ignore").decode()

    def _remove_html_tags(self, text: str) -> str:
        return CLEANUP_REGEX.sub("", text)

    def _remove_punctuation(self, text: str) -> str:
        return text.translate(_NO_PUNCTUATION)

    # As TorchServe spelled it once; old handlers call it so.
    _remove_puncutation = _remove_punctuation

    def _tokenize(self, text: str) -> list[str]:
        return self.tokenizer(text)


def _expanded(contraction: re.Match[str]) -> str:
    text = contraction[0]
    return text[0] + CONTRACTION_MAP[text.lower()][1:]


def _vocabulary(path: Path) -> Any:
    """Words to their numbers; no code in the file is run."""
    try:
        content = torch.load(path, weights_only=True)
    except pickle.UnpicklingError as error:
        raise ValueError(
            f"{path.name} holds more than words and numbers, which is not unpickled. A Vocab of "
            "torchtext is saved for this handler by torch.save(vocab.get_stoi(), path)"
        ) from error
    if isinstance(content, Mapping):
        return content
    if isinstance(content, Sequence):
        return {word: number for number, word in enumerate(content)}
    raise ValueError(f"{path.name} holds neither a dict nor a list of words")
