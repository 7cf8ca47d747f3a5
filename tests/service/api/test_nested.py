"""Rows read from a text's shape: the same numbers as JSON's reader finds, or nothing at all."""

import json
import struct

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from service.api.nested import flat_instances

# What a number may be replaced by, or followed by, in a text that was good.
ODD = [*'[],{}:" \t\n\v-+.eE0', "1", "1.5", "true", "null", '"a"', "[1]", "[]", ",,", "1e5", "01"]
NUMBERS = st.one_of(
    st.integers(-(2**70), 2**70),
    st.floats(allow_nan=False, allow_infinity=False),
    st.sampled_from([0, -0.0, 1e308, 5e-324, 2**53 + 1]),
)
SPACE = st.text(" \t\r\n", max_size=2)


def careful(body: bytes, width: int) -> list[float] | None:
    """The numbers by JSON's own reader, where the body is rows of this width and nothing else."""
    try:
        document = orjson.loads(body)
    except orjson.JSONDecodeError:
        return None
    if not isinstance(document, dict) or document.keys() != {"instances"}:
        return None
    rows = document["instances"]
    if not isinstance(rows, list) or not all(
        isinstance(row, list) and len(row) == width for row in rows
    ):
        return None
    cells = [cell for row in rows for cell in row]
    return cells if all(type(cell) in {int, float} for cell in cells) else None


def bits(cells: list[float]) -> list[object]:
    """Numbers that only the same numbers equal, nought's sign and kind included."""
    return [struct.pack("d", cell) if isinstance(cell, float) else cell for cell in cells]


def assert_agrees(body: bytes, width: int) -> None:
    found = flat_instances(body, width)
    if found is not None:
        expected = careful(body, width)
        assert expected is not None, body
        assert (bits(found[0]), found[1]) == (bits(expected), len(expected) // width)


@st.composite
def texts(draw: st.DrawFn) -> tuple[str, int]:
    """A body of rows of one width, with white space around numbers and all rows."""
    width = draw(st.integers(1, 4))
    count = draw(st.integers(8, 20))
    number = NUMBERS.map(lambda value: orjson.dumps(value).decode() if fits(value) else repr(value))
    between = draw(st.sampled_from([",", ", "]))
    rows = []
    for _ in range(count):
        cells = draw(st.lists(number, min_size=width, max_size=width))
        rows.append(f"[{','.join(draw(SPACE) + cell + draw(SPACE) for cell in cells)}]")
    gap = draw(SPACE)
    return f'{gap}{{"instances"{gap}:{gap}[{between.join(rows)}]{gap}}}{gap}', width


def fits(value: object) -> bool:
    return not isinstance(value, int) or -(2**63) <= value < 2**64


@given(texts())
def test_rows_are_the_numbers_that_jsons_reader_finds(made: tuple[str, int]) -> None:
    """Whatever numbers and white space there are, bit for bit."""
    assert_agrees(made[0].encode(), made[1])


@pytest.mark.parametrize("separators", [(",", ":"), (", ", ": ")])
@pytest.mark.parametrize("width", [1, 2, 30])
def test_rows_as_writers_of_json_have_them_are_read(
    separators: tuple[str, str], width: int
) -> None:
    """The quick way is gone for what clients send."""
    rows = [[row + column / 4 for column in range(width)] for row in range(100)]
    body = json.dumps({"instances": rows}, separators=separators).encode()

    assert flat_instances(body, width) == ([cell for row in rows for cell in row], 100)


@settings(max_examples=400)
@given(texts(), st.data())
def test_a_changed_text_is_never_read_as_what_it_is_not(
    made: tuple[str, int], data: st.DataObject
) -> None:
    """Pieces put in, taken out, moved, doubled or swapped: the reader's own numbers, or none."""
    text, width = made
    for _ in range(data.draw(st.integers(0, 1))):
        swapped = data.draw(st.integers(0, len(text) - 2))
        pair = text[swapped : swapped + 2]
        text = text[:swapped] + pair[::-1] + text[swapped + 2 :]
    for _ in range(data.draw(st.integers(0, 2))):
        start = data.draw(st.integers(0, len(text)))
        end = min(start + data.draw(st.integers(0, 3)), len(text))
        piece = data.draw(st.one_of(st.sampled_from(ODD), st.just(text[start:end])))
        place = data.draw(st.integers(0, len(text)))
        text = text[:start] + text[end:] if data.draw(st.booleans()) else text
        text = text[:place] + piece + text[place:]

    assert_agrees(text.encode(), width)


ROW = "[1,2]"
GOOD = ",".join([ROW] * 9)


@pytest.mark.parametrize(
    "rows",
    [
        "[[1,]2," + GOOD + "]",
        "[1[,2]," + GOOD + "]",
        "1[[,2]," + GOOD + "]",
        "[" + GOOD + ",[1,]]2",
        "[" + GOOD + ",[1, ] 2]",
        "[" + GOOD + ",[1,] \n2]",
        "[[1,2]3," + GOOD + "]",
        "[[1 2,3]," + GOOD + "]",
        "[[,1]2," + GOOD + "]",
        "[[1,2,]," + GOOD + "]",
        "[[1,2]," + GOOD + ",]",
        "[[1,[2]]," + GOOD + "]",
        "[[[1,2]]," + GOOD + "]",
        "[[1,true]," + GOOD + "]",
        "[[1,null]," + GOOD + "]",
        '[[1,"2"],' + GOOD + "]",
        "[[1,01]," + GOOD + "]",
        "[[1,+1]," + GOOD + "]",
        "[[1,.5]," + GOOD + "]",
        "[[1,1e]," + GOOD + "]",
        "[[1,-]," + GOOD + "]",
        "[[1,NaN]," + GOOD + "]",
        "[[1,\v2]," + GOOD + "]",
        "[" + GOOD + '],"instances":[' + GOOD + "]",
        "[" + GOOD + '],"more":1',
        "[[1],[2,3,4]," + GOOD + "]",
    ],
)
def test_what_is_no_such_rows_is_left_to_the_careful_way(rows: str) -> None:
    """Numbers beside brackets, other nesting, other values and broken JSON."""
    assert flat_instances(f'{{"instances":{rows}}}'.encode(), 2) is None


@pytest.mark.parametrize("space", ["\v", "\f", "\x00", "\ufeff", "\u00a0"])
def test_only_jsons_white_space_may_surround_it(space: str) -> None:
    """What other readers call space is refused as JSON refuses it."""
    body = f'{space}{{"instances":[{GOOD}]}}'.encode()

    assert careful(body, 2) is None
    assert flat_instances(body, 2) is None


def test_single_cells_have_their_brackets_too() -> None:
    """A number beside an empty row is not that row's."""
    body = b'{"instances":[[]1,[2],[3],[4],[5],[6],[7],[8],[9]]}'

    assert careful(body, 1) is None
    assert flat_instances(body, 1) is None
