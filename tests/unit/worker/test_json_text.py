"""JSON is what Python's json makes of it, whichever library does the work."""

import json
import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tsd.worker import json_text

scalars = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.floats(min_value=-1, max_value=1)
    | st.text()
    | st.text(st.characters(codec="ascii"))
)
values = st.recursive(
    scalars,
    lambda inner: (
        st.lists(inner, max_size=5)
        | st.dictionaries(st.text(max_size=5) | st.integers(), inner, max_size=5)
        | st.tuples(inner, inner)
    ),
    max_leaves=20,
)
REFUSED_BY_JSON = ["{bad", "", "[1,]", "\ufeff[1]", "'a'", '"a\nb"', "[1] x", "01"]


def same(left: Any, right: Any) -> bool:
    """Equal in value and in type, NaN included."""
    return repr(left) == repr(right)


@given(values)
def test_text_is_that_of_json_with_indent_2(value: Any) -> None:
    assert json_text.dumps(value) == json.dumps(value, indent=2).encode()


@given(st.floats(min_value=1e-6, max_value=1e-3) | st.floats(min_value=1e15, max_value=1e17))
def test_numbers_that_change_form_are_written_as_json_does(value: float) -> None:
    assert json_text.dumps([value, -value]) == json.dumps([value, -value], indent=2).encode()


@given(values)
def test_what_json_writes_is_read_as_json_reads_it(value: Any) -> None:
    text = json.dumps(value)
    assert same(json_text.loads(text.encode()), json.loads(text))


@given(st.lists(st.integers(min_value=2**62, max_value=2**66) | st.floats(0, 0.01), min_size=1))
def test_long_integers_among_long_fractions_stay_exact(value: list[float]) -> None:
    text = json.dumps({"a": value})
    assert same(json_text.loads(text.encode()), json.loads(text))


@pytest.mark.parametrize(
    "text",
    [
        "18446744073709551615",
        "18446744073709551616",
        "-9223372036854775809",
        "1e400",
        "[NaN, Infinity, -Infinity]",
        '"\\ud800"',
        '{"a": 1, "b": 2, "a": 3}',
        "-0",
        "-0.0",
        "0.1234567890123456789012345678901234567890",
        " [1]\n",
    ],
)
def test_odd_but_valid_text_is_read_as_json_reads_it(text: str) -> None:
    assert same(json_text.loads(text.encode()), json.loads(text))


@pytest.mark.parametrize("text", REFUSED_BY_JSON)
def test_what_json_refuses_is_refused(text: str) -> None:
    with pytest.raises(json.JSONDecodeError):
        json_text.loads(text.encode())


def test_bytes_that_are_not_utf8_are_refused() -> None:
    with pytest.raises(UnicodeDecodeError):
        json_text.loads(b'"\xff"')


def test_a_view_of_shared_memory_is_read_in_place() -> None:
    assert json_text.loads(memoryview(b'{"a": [1.5]}').toreadonly()) == {"a": [1.5]}


def test_endless_nesting_is_an_error_and_not_a_crash() -> None:
    with pytest.raises(RecursionError):
        json_text.loads(b"[" * 1_000_000)


def test_nan_is_written_as_a_literal() -> None:
    assert json_text.dumps({"v": math.nan}) == b'{\n  "v": NaN\n}'


@pytest.mark.parametrize("value", [{1}, b"x", object(), [1, {2}]])
def test_what_json_cannot_write_is_a_type_error(value: Any) -> None:
    with pytest.raises(TypeError):
        json_text.dumps(value)
