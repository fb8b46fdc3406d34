"""Contracted English words and what they stand for, in small letters."""

from __future__ import annotations

# Each ending: what it stands for, and the words that it is known with.
_ENDINGS = {
    "n't": (
        "not",
        "are could did does do had has have is may might must need ought should was were would",
    ),
    "'d": ("would", "he i it she that there they we you"),
    "'ll": ("will", "he how i it she they we what who you"),
    "'m": ("am", "i"),
    "'re": ("are", "they we what you"),
    "'s": ("is", "he how it she that there what when where who why"),
    "'ve": (
        "have",
        "could i might must should so they to we what when where who why will would you",
    ),
}

CONTRACTION_MAP = {
    word + ending: f"{word} {meaning}"
    for ending, (meaning, words) in _ENDINGS.items()
    for word in words.split()
} | {
    "ain't": "is not",
    "can't": "cannot",
    "'cause": "because",
    "how'd": "how did",
    "let's": "let us",
    "ma'am": "madam",
    "o'clock": "of the clock",
    "shan't": "shall not",
    "sha'n't": "shall not",
    "so's": "so as",
    "where'd": "where did",
    "won't": "will not",
    "y'all": "you all",
}
