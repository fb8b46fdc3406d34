"""TextClassifier: the probability of each class of a text. One request at a time: batchSize 1."""

from __future__ import annotations

from typing import Any

import torch
from ts.handler_utils.optional import library
from ts.handler_utils.text_utils import ngrams_iterator
from ts.torch_handler.text_handler import TextHandler
from ts.utils.util import map_class_to_label

UNKNOWN = "<unk>"


class TextClassifier(TextHandler):
    """For models of `(numbers of words, offsets)`, such as those around an EmbeddingBag."""

    ngrams = 2

    def preprocess(self, data: Any) -> tuple[torch.Tensor, list[str]]:
        """The numbers of the cleaned text's words and n-grams, and its words."""
        text = data[0].get("data") or data[0].get("body")
        if isinstance(text, bytes | bytearray):
            text = text.decode()
        text = self._expand_contractions(self._remove_html_tags(text).lower())
        text = self._remove_punctuation(self._remove_accented_characters(text))
        words = self._tokenize(text)
        numbers = self._numbers(list(ngrams_iterator(words, self.ngrams)))
        return torch.as_tensor(numbers, dtype=torch.int64, device=self.device), words

    def inference(self, data: Any, *args: Any, **kwargs: Any) -> Any:
        """The scores of the classes."""
        numbers, _ = data
        return super().inference(numbers, self._offsets())

    def postprocess(self, data: Any) -> list[Any]:
        """Label to probability."""
        return map_class_to_label(torch.softmax(data, dim=-1).tolist(), self.mapping)

    def get_insights(self, tensor_data: Any, _: Any, target: Any = 0) -> list[Any]:
        """How much each word speaks for the target."""
        numbers, words = tensor_data
        reference = library("captum.attr", "an explanation").TokenReferenceBase()
        attributions = self.lig.attribute(
            numbers,
            reference.generate_reference(len(numbers), device=self.device).squeeze(0),
            additional_forward_args=self._offsets(),
            return_convergence_delta=False,
            target=target,
        )
        importances = self.summarize_attributions(attributions).tolist()
        return [{"importances": importances, "words": self.get_word_token(words)}]

    def _numbers(self, words: list[str]) -> list[int]:
        # A word without a number is the unknown one's, or left out where there is none.
        unknown = self.source_vocab.get(UNKNOWN)
        numbers = [self.source_vocab.get(word, unknown) for word in words]
        return [number for number in numbers if number is not None]

    def _offsets(self) -> torch.Tensor:
        return torch.zeros(1, dtype=torch.int64, device=self.device)
