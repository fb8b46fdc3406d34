"""Lines of a worker's output: what they say comes through, and nothing else is believed."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tsd.ipc.lines import BREAK, LEVELS, MARK, MAX_IDS, UNIT, Line, pack_line, unpack_line

TEXT = st.text(st.characters(exclude_categories=["Cs"], exclude_characters=[UNIT, BREAK]))
ID = st.from_regex(r"[0-9a-f-]{1,36}", fullmatch=True)


def crossed(packed: str) -> Line:
    assert packed.count("\n") == 1
    assert packed.endswith("\n")
    return unpack_line(packed[:-1].encode())


@given(TEXT, st.lists(ID, max_size=5), st.sampled_from(["", *LEVELS]), TEXT.map(lambda t: t[:128]))
def test_what_was_packed_is_unpacked(text: str, ids: list[str], level: str, logger: str) -> None:
    said = crossed(pack_line(text, ids, level, logger.replace("\n", "")))
    assert said == Line(text, level, ",".join(ids), logger.replace("\n", ""))


def test_a_text_of_several_lines_is_one_line_on_the_way() -> None:
    assert crossed(pack_line("a\n  b\n", [])) == Line("a\n  b\n")


def test_the_ids_of_a_very_large_batch_are_cut() -> None:
    said = crossed(pack_line("a", ["1"] * 1000))
    assert said.request_ids.count("1") == MAX_IDS


@pytest.mark.parametrize(
    "line",
    [
        "plain",
        f"{MARK}plain",
        f"{MARK}info{UNIT}{UNIT}text",
        f"{MARK}loud{UNIT}{UNIT}{UNIT}text",
        f"{MARK}{UNIT}1,{UNIT}{UNIT}text",
        f"{MARK}{UNIT},1{UNIT}{UNIT}text",
        f"{MARK}{UNIT}a b{UNIT}{UNIT}text",
        f"{MARK}{UNIT}{'1' * 37}{UNIT}{UNIT}text",
        f"{MARK}{UNIT}{','.join(['1'] * (MAX_IDS + 1))}{UNIT}{UNIT}text",
        f"{MARK}{UNIT}1\u0662{UNIT}{UNIT}text",
    ],
)
def test_a_head_of_another_form_is_text(line: str) -> None:
    assert unpack_line(line.encode()) == Line(line)


@given(st.binary())
def test_any_bytes_are_a_line(line: bytes) -> None:
    said = unpack_line(MARK.encode() + line)
    assert said.level in ("", *LEVELS)
    assert said.request_ids.isascii()
