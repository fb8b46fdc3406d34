"""Text is cleaned and cut as TorchServe does it, and classified by its words."""

import math
import pickle
import re
import sys
from collections import OrderedDict
from pathlib import Path
from typing import Any

import pytest
import torch
from ts.handler_utils.text_utils import get_tokenizer, ngrams_iterator
from ts.torch_handler.contractions import CONTRACTION_MAP
from ts.torch_handler.text_classifier import TextClassifier
from ts.torch_handler.text_handler import TextHandler
from ts.utils.util import CLEANUP_REGEX

from tests.unit.worker.ts.contexts import asked, context_of

NET = """
import torch
class Net(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.embedding = torch.nn.EmbeddingBag(5, 2, mode="sum")
    def forward(self, numbers, offsets): return self.embedding(numbers, offsets)
"""

VOCABULARY = {"<unk>": 0, "do": 1, "not": 2, "do not": 3, "panic": 4}


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A model that adds up what its words say; `not` says 1 for the second class."""
    (tmp_path / "net.py").write_text(NET)
    weight = torch.zeros(5, 2)
    weight[2, 1] = 1.0
    torch.save({"embedding.weight": weight}, tmp_path / "net.pt")
    torch.save(VOCABULARY, tmp_path / "source_vocab.pt")
    (tmp_path / "index_to_name.json").write_text('{"0": "calm", "1": "denial"}')
    monkeypatch.syspath_prepend(tmp_path)
    return tmp_path


def classifier(folder: Path, **model: str) -> TextClassifier:
    sys.modules.pop("net", None)
    handler = TextClassifier()
    handler.initialize(
        context_of(folder, {"modelFile": "net.py", "serializedFile": "net.pt", **model})
    )
    return handler


@pytest.mark.parametrize(
    ("line", "tokens"),
    [
        ("You can, now!", ["you", "can", ",", "now", "!"]),
        ("it's a.b", ["it", "'", "s", "a", ".", "b"]),
        ('say "hi";then:<br />go (now)?', ["say", "hi", "then", "go", "(", "now", ")", "?"]),
        (" \t\n", []),
    ],
)
def test_basic_english(line: str, tokens: list[str]) -> None:
    assert get_tokenizer("basic_english")(line) == tokens


def test_tokenizers_by_name_or_of_ones_own() -> None:
    assert get_tokenizer(None)("A b.") == ["A", "b."]
    assert get_tokenizer(list)("ab") == ["a", "b"]
    with pytest.raises(ValueError, match="neither basic_english"):
        get_tokenizer("spacy")
    with pytest.raises(ValueError, match="not for 'de'"):
        get_tokenizer("basic_english", "de")


def test_ngrams_come_by_their_length() -> None:
    tokens = ["here", "we", "are"]
    assert list(ngrams_iterator(tokens, 1)) == tokens
    assert list(ngrams_iterator(tokens, 2)) == [*tokens, "here we", "we are"]
    assert list(ngrams_iterator(["a"], 3)) == ["a"]


@pytest.mark.parametrize(
    ("text", "expanded"),
    [
        ("I don't", "I do not"),
        ("Don't", "Do not"),
        ("they'd've gone", "they wouldve gone"),
        ("y'all can't", "you all cannot"),
        ("the dog's", "the dogs"),
        ("HE'S", "He is"),
    ],
)
def test_contractions_are_written_out(text: str, expanded: str) -> None:
    assert TextHandler()._expand_contractions(text) == expanded  # noqa: SLF001


def test_contractions_are_words_with_an_apostrophe() -> None:
    assert all(re.fullmatch("[a-z]*'[a-z]+('[a-z]+)?", word) for word in CONTRACTION_MAP)


def test_tags_accents_and_punctuation_go() -> None:
    handler = TextHandler()
    assert CLEANUP_REGEX.sub("", "<b>a</b>&amp;&#12;&#x1f;b") == "ab"
    assert handler._remove_html_tags("<p>é</p>") == "é"  # noqa: SLF001
    assert handler._remove_accented_characters("éa") == "ea"  # noqa: SLF001
    assert handler._remove_puncutation("a,b!") == "ab"  # noqa: SLF001
    assert handler.get_word_token(["Ġa", "b"]) == ["a", "b"]


@pytest.mark.parametrize(
    ("text", "nots"),
    [("<i>DON'T</i> panic!", 1), (b"don't, can't not", 2), (bytearray(b"d\xc3\xb6 panic"), 0)],
)
def test_a_text_is_classified_by_its_words(folder: Path, text: Any, nots: int) -> None:
    handler = classifier(folder)
    answer = handler.handle([{"body": text}], asked(context_of(folder)))
    denial = 1 / (1 + math.exp(-nots))
    assert answer == [pytest.approx({"calm": 1 - denial, "denial": denial})]
    assert list(answer[0]) == ["calm", "denial"]


def test_words_and_pairs_become_their_numbers(folder: Path) -> None:
    numbers, words = classifier(folder).preprocess([{"data": "do not panic"}])
    assert words == ["do", "not", "panic"]
    # The last pair is unknown.
    assert numbers.tolist() == [1, 2, 4, 3, 0]


@pytest.mark.parametrize(
    ("vocabulary", "numbers"),
    [
        (["do", "not"], [0, 1]),
        (OrderedDict(VOCABULARY), [1, 2, 4, 3, 0]),
        ({"panic": 4}, [4]),
    ],
)
def test_a_vocabulary_is_a_dict_or_a_list(folder: Path, vocabulary: Any, numbers: Any) -> None:
    torch.save(vocabulary, folder / "source_vocab.pt")
    handler = classifier(folder)
    assert handler.preprocess([{"data": "do not panic"}])[0].tolist() == numbers


def test_a_vocabulary_may_have_another_name(folder: Path) -> None:
    (folder / "source_vocab.pt").rename(folder / "words.pt")
    assert classifier(folder, sourceVocab="words.pt").source_vocab == VOCABULARY
    with pytest.raises(RuntimeError, match=r"no source_vocab\.pt"):
        classifier(folder)


class Vocab:
    """Stands for a class of a library that is not here."""


def test_code_in_a_vocabulary_is_not_run_and_the_way_out_is_said(folder: Path) -> None:
    torch.save(Vocab(), folder / "source_vocab.pt")
    with pytest.raises(ValueError, match="get_stoi") as caught:
        classifier(folder)
    assert isinstance(caught.value.__cause__, pickle.UnpicklingError)
    torch.save(7, folder / "source_vocab.pt")
    with pytest.raises(ValueError, match="neither a dict nor a list"):
        classifier(folder)


def test_an_explanation_says_how_much_each_word_counts(folder: Path) -> None:
    pytest.importorskip("captum")
    handler = classifier(folder)
    rows = [{"body": "do not panic", "target": 1}]
    answer = handler.handle(rows, asked(context_of(folder), explain="True"))
    assert answer[0]["words"] == ["do", "not", "panic"]
    assert answer[0]["importances"]
