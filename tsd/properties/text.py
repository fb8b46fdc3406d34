"""Java's .properties files, read and written.

What keys mean is in keys.py."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping

_LINE_BREAK = re.compile(r"\r\n|\r|\n")
_BLANKS = " \t\f"
_ENTRY = re.compile(r"((?:\\.|[^\\=: \t\f])*)[ \t\f]*[=:]?[ \t\f]*(.*)", re.DOTALL)
_ESCAPE = re.compile(r"\\(?:u([0-9a-fA-F]{4})|(.))", re.DOTALL)
_SPECIAL = {"t": "\t", "n": "\n", "r": "\r", "f": "\f"}
_WRITTEN = {special: f"\\{letter}" for letter, special in _SPECIAL.items()}


def parse(text: str) -> dict[str, str]:
    """The properties of a file; of a key that stands there twice, the last.

    ValueError: a \\u without its digits."""
    found = {}
    for line in _logical_lines(text):
        entry = _ENTRY.fullmatch(line)
        assert entry is not None, "the pattern fits every line"
        found[_unescaped(entry[1])] = _unescaped(entry[2])
    return found


def write(properties: Mapping[str, str], comment: str) -> str:
    """A file that reads back as these properties, in ASCII: whoever reads it, it is the same."""
    lines = [f"#{comment}"]
    lines += [f"{_escaped(key, ' =:#!')}={_value(value)}" for key, value in properties.items()]
    return "\n".join(lines) + "\n"


def decode(content: bytes) -> str:
    """Java reads Latin-1, people write UTF-8: it is that where it can be."""
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError:
        return content.decode("latin-1")


def _logical_lines(text: str) -> Iterator[str]:
    """Lines without comments and blank ones; one that ends in a backslash goes on in the next."""
    line = ""
    for natural in _LINE_BREAK.split(text):
        begun = natural.lstrip(_BLANKS)
        if not line and (not begun or begun[0] in "#!"):
            continue
        line += begun
        if not _is_continued(line):
            yield line
            line = ""
        else:
            line = line[:-1]
    if line:
        yield line


def _is_continued(line: str) -> bool:
    return (len(line) - len(line.rstrip("\\"))) % 2 == 1


def _unescaped(text: str) -> str:
    plain = _ESCAPE.sub(_character, text)
    # What stands outside the first plane was written as two halves.
    return plain.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def _character(escape: re.Match[str]) -> str:
    if escape[1]:
        return chr(int(escape[1], 16))
    if escape[2] == "u":
        raise ValueError("\\u is not followed by four hexadecimal digits")
    return _SPECIAL.get(escape[2], escape[2])


def _value(text: str) -> str:
    """Blanks count in a value, but for those at its beginning."""
    inner = text.lstrip(" ")
    return "\\ " * (len(text) - len(inner)) + _escaped(inner, "")


def _escaped(text: str, separators: str) -> str:
    return "".join(_one_escaped(character, separators) for character in text)


def _one_escaped(character: str, separators: str) -> str:
    if character in _WRITTEN:
        return _WRITTEN[character]
    if character == "\\" or character in separators:
        return f"\\{character}"
    if " " <= character <= "~":
        return character
    halves = character.encode("utf-16-be", "surrogatepass")
    return "".join(f"\\u{halves[i]:02X}{halves[i + 1]:02X}" for i in range(0, len(halves), 2))
