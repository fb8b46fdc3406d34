"""Java's .properties: what is read is what Java reads, and what is written is read back."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tsd.properties import text


@pytest.mark.parametrize(
    ("written", "expected"),
    [
        ("a=b", {"a": "b"}),
        ("a:b", {"a": "b"}),
        ("a b", {"a": "b"}),
        ("  a \t= \f b c ", {"a": "b c "}),
        ("a = = b", {"a": "= b"}),
        ("a", {"a": ""}),
        ("=b", {"": "b"}),
        ("# a=b\n  ! c=d\n\n \t\nkey=value", {"key": "value"}),
        ("a=b # no comment", {"a": "b # no comment"}),
        ("a=b\r\nc=d\re=f", {"a": "b", "c": "d", "e": "f"}),
        ("a=b\\\n    c,\\\n\n", {"a": "bc,"}),
        ("a=b\\\n#c", {"a": "b#c"}),
        ("a=b\\\\\nc=d", {"a": "b\\", "c": "d"}),
        ("# comment \\\na=b", {"a": "b"}),
        ("a=b\\", {"a": "b"}),
        (r"a\=\:\ b=c\td\n\z", {"a=: b": "c\td\nz"}),
        (r"a=\u00e9\u20AC\ud83d\ude00", {"a": "é€😀"}),
        (r"a=\\u0041", {"a": "\\u0041"}),
        ("a=1\na=2", {"a": "2"}),
        ("path=C\x0bD\x1cE", {"path": "C\x0bD\x1cE"}),
    ],
)
def test_reading(written: str, expected: dict[str, str]) -> None:
    assert text.parse(written) == expected


def test_half_a_character_code_is_refused() -> None:
    with pytest.raises(ValueError, match="four hexadecimal digits"):
        text.parse(r"a=\u12")


KEYS = st.text(min_size=1)


@given(st.dictionaries(KEYS, st.text()), st.sampled_from(["Saving snapshot", ""]))
def test_what_is_written_is_read_back_whatever_the_reader_takes_it_for(
    properties: dict[str, str], comment: str
) -> None:
    written = text.write(properties, comment)
    assert text.parse(written) == properties
    assert text.parse(text.decode(written.encode("ascii"))) == properties
    assert written.startswith(f"#{comment}\n")


def test_files_are_utf_8_where_they_can_be_and_else_latin_1() -> None:
    assert text.decode("a=é".encode()) == "a=é"
    assert text.decode("a=é".encode("latin-1")) == "a=é"
    assert text.decode(b"\xef\xbb\xbfa=b") == "a=b"
