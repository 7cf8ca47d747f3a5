"""Numbers read by simdjson equal those of Python's json, or the reader returns None."""

import json
import struct
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from service.codecs.json_reader import (
    parse_number_rows,
    parse_numbers_under,
    parse_tensor_request,
)
from service.codecs.tensors import convert_exactly

# Texts that replace or follow a number of a valid text.
ODD = [*'[],{}:" \t\n\v-+.eE0', "1", "1.5", "true", "null", '"a"', "[1]", "[]", ",,", "1e5", "01"]
NUMBERS = st.one_of(
    st.integers(-(2**70), 2**70),
    st.floats(allow_nan=False, allow_infinity=False),
    st.sampled_from([0, -0.0, 1e308, 5e-324, 2**53 + 1]),
)
SPACE = st.text(" \t\r\n", max_size=2)
# Shorter texts are read by Python's json.
LONG = 300


def loaded(body: bytes) -> object:
    """Return the document, or None if it is not JSON."""
    try:
        return orjson.loads(body)
    except orjson.JSONDecodeError:
        return None


def careful_rows(body: bytes) -> list[list[float]] | None:
    """Return the rows by Python's JSON parser, if the body is only rows of one width."""
    rows = loaded(body)
    if isinstance(rows, dict):
        rows = rows["instances"] if rows.keys() == {"instances"} else None
    if not isinstance(rows, list) or not all(isinstance(row, list) for row in rows):
        return None
    if len({len(row) for row in rows}) != 1 or not rows[0]:
        return None
    plain = all(type(cell) in {int, float} for row in rows for cell in row)
    return rows if plain else None


def bits(rows: Any) -> list[list[bytes]]:  # noqa: ANN401 - lists or an array
    """Return the bits of numbers, in which the sign of zero counts."""
    return [[struct.pack("d", cell) for cell in row] for row in rows]


def assert_rows_agree(body: bytes) -> None:
    found = parse_number_rows(body.ljust(LONG))
    if found is not None:
        expected = careful_rows(body)
        assert expected is not None, body
        assert bits(found) == bits(expected)


def assert_requests_agree(body: bytes) -> None:
    found = parse_tensor_request(body.ljust(LONG))
    if found is not None:
        expected: Any = loaded(body)
        assert expected is not None, body
        (tensor,), (sent,) = found["inputs"], expected["inputs"]
        data = tensor.pop("data").tolist()
        assert bits([data]) == bits([sent.pop("data")])
        assert found == expected


def fits(value: object) -> bool:
    return not isinstance(value, int) or -(2**63) <= value < 2**64


def numbers(draw: st.DrawFn, count: int) -> list[str]:
    number = NUMBERS.map(lambda value: orjson.dumps(value).decode() if fits(value) else repr(value))
    cells = draw(st.lists(number, min_size=count, max_size=count))
    return [draw(SPACE) + cell + draw(SPACE) for cell in cells]


@st.composite
def rows(draw: st.DrawFn) -> str:
    """A body of rows of one width, with white space around numbers and all rows."""
    width, count = draw(st.integers(1, 4)), draw(st.integers(1, 20))
    made = [f"[{','.join(numbers(draw, width))}]" for _ in range(count)]
    gap, between = draw(SPACE), draw(st.sampled_from([",", ", "]))
    inner = f"[{between.join(made)}]"
    return draw(st.sampled_from([inner, f'{{"instances"{gap}:{gap}{inner}{gap}}}{gap}']))


@st.composite
def requests(draw: st.DrawFn) -> str:
    """A request of one tensor, with the optional fields next to it."""
    count = draw(st.integers(0, 30))
    kind = draw(st.sampled_from(["FP32", "FP64", "UINT8", "INT64", "UINT64", "BOOL", "FP99"]))
    data = f"[{','.join(numbers(draw, count))}]"
    parts = [f'"name": "x", "shape": [{count}]', f'"datatype": "{kind}"', f'"data": {data}']
    fields = draw(st.sampled_from(["", ', "id": "a"', ', "parameters": {"top": {"k": 1.5}}']))
    return f'{{"inputs": [{{{", ".join(draw(st.permutations(parts)))}}}]{fields}}}'


def changed(text: str, data: st.DataObject) -> bytes:
    """The text with pieces inserted, removed, moved, repeated or swapped."""
    for _ in range(data.draw(st.integers(0, 1))):
        swapped = data.draw(st.integers(0, len(text) - 2))
        pair = text[swapped : swapped + 2]
        text = text[:swapped] + pair[::-1] + text[swapped + 2 :]
    for _ in range(data.draw(st.integers(0, 2))):
        start = data.draw(st.integers(0, len(text)))
        end = min(start + data.draw(st.integers(0, 3)), len(text))
        piece = data.draw(st.one_of(st.sampled_from(ODD), st.just(text[start:end])))
        position = data.draw(st.integers(0, len(text)))
        text = text[:start] + text[end:] if data.draw(st.booleans()) else text
        text = text[:position] + piece + text[position:]
    return text.encode()


@given(rows())
def test_rows_are_the_numbers_of_another_json_parser(made: str) -> None:
    """Any numbers and white space are read exactly as by a different parser."""
    assert_rows_agree(made.encode())


@given(requests())
def test_a_request_is_the_document_of_another_json_parser(made: str) -> None:
    """The tensor and the other fields equal those of a different parser."""
    assert_requests_agree(made.encode())


@settings(max_examples=200)
@given(rows(), st.data())
def test_changed_rows_are_never_misread(made: str, data: st.DataObject) -> None:
    """The result is the numbers of the other parser, or None."""
    assert_rows_agree(changed(made, data))


@settings(max_examples=200)
@given(requests(), st.data())
def test_a_changed_request_is_never_misread(made: str, data: st.DataObject) -> None:
    """The result is the document of the other parser, or None."""
    assert_requests_agree(changed(made, data))


@pytest.mark.parametrize("separators", [(",", ":"), (", ", ": ")])
@pytest.mark.parametrize(("count", "width"), [(1, 784), (7, 30), (100, 1), (100, 2), (100, 30)])
def test_the_output_of_json_encoders_is_parsed(
    separators: tuple[str, str], count: int, width: int
) -> None:
    """The fast parser accepts the formatting of common clients."""
    sent = [[row + column / 4 for column in range(width)] for row in range(count)]
    flat = [cell for row in sent for cell in row]
    tensor = {"name": "x", "shape": [count, width], "datatype": "FP32", "data": flat}

    def text(document: object) -> bytes:
        return json.dumps(document, separators=separators).encode()

    read = [parse_number_rows(text(document)) for document in (sent, {"instances": sent})]
    under = parse_numbers_under(text({"image": flat}), "image")
    request = parse_tensor_request(text({"inputs": [tensor]}))

    assert all(one is not None and one.tolist() == sent for one in read)
    assert under is not None
    assert under.tolist() == [flat]
    assert request is not None
    assert request["inputs"][0]["data"].tolist() == flat


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
        "[[1,2]3," + GOOD + "]",
        "[[1 2,3]," + GOOD + "]",
        "[[1,2,]," + GOOD + "]",
        "[[1,2]," + GOOD + ",]",
        "[3," + GOOD + "]",
        "[[1,[2]]," + GOOD + "]",
        "[[[1,2]]," + GOOD + "]",
        "[[1,true]," + GOOD + "]",
        "[[1,null]," + GOOD + "]",
        '[[1,"2"],' + GOOD + "]",
        '[[1,"["],' + GOOD + "]",
        '[{"a":1},' + GOOD + "]",
        "[[1,01]," + GOOD + "]",
        "[[1,+1]," + GOOD + "]",
        "[[1,.5]," + GOOD + "]",
        "[[1,-]," + GOOD + "]",
        "[[1,NaN]," + GOOD + "]",
        "[[1,1e999]," + GOOD + "]",
        "[[1,\v2]," + GOOD + "]",
        "[" + GOOD + '],"instances":[' + GOOD + "]",
        "[" + GOOD + '],"more":1',
        "[[1],[2,3,4]," + GOOD + "]",
        "[[1],[2,3,4]]",
        "[[1,2],3,[4,[5]]]",
        "[[],[]]",
        "[[[1],[2]]]",
        "[]",
        "5",
    ],
)
def test_other_bodies_are_left_to_orjson(rows: str) -> None:
    """Numbers next to brackets, other nesting, other values and broken JSON."""
    assert parse_number_rows(f'{{"instances":{rows}}}'.encode().ljust(LONG)) is None


@pytest.mark.parametrize("space", ["\v", "\f", "\x00", "\ufeff", "\u00a0"])
def test_only_json_white_space_is_skipped(space: str) -> None:
    """Other kinds of white space are not accepted, as JSON requires."""
    body = f'{space}{{"instances":[{GOOD}]}}'.encode().ljust(LONG)

    assert loaded(body) is None
    assert parse_number_rows(body) is None


@pytest.mark.parametrize(
    "body",
    [
        b'{"image": [1, 2], "image": 3}',
        b'{"image": [1, 2], "b": 3}',
        b'{"imago": [1, 2]}',
        b'{"image": [1, true]}',
        b'{"image": "[1, 2]"}',
        b'{"image": 5, "a": []}',
        b"[1, 2]",
    ],
)
def test_another_object_is_not_the_one_array(body: bytes) -> None:
    """An object with two keys, a different key or other values is not read as an array."""
    assert parse_numbers_under(body.ljust(LONG), "image") is None


@pytest.mark.parametrize("read", [parse_number_rows, parse_tensor_request])
def test_threads_parse_at_the_same_time(read: Callable[[bytes], object]) -> None:
    """Each thread gets the result of its own text, long or short."""
    texts = []
    for index in range(64):
        flat = [index + column / 8 for column in range(100 * (1 + 200 * (index % 2)))]
        tensor = {"name": "x", "shape": [len(flat)], "datatype": "FP64", "data": flat}
        document = [flat] if read is parse_number_rows else {"inputs": [tensor]}
        texts.append(orjson.dumps(document))

    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(read, texts * 4))

    alone = [read(text) for text in texts] * 4
    assert [str(one) for one in found] == [str(one) for one in alone]
    assert all(one is not None for one in found)


@pytest.mark.parametrize("bad", [b"[[1,", b"[[18446744073709551616]]", b"[[1,true]]", b"[[1],2]"])
def test_an_invalid_text_does_not_affect_the_next(bad: bytes) -> None:
    """The reused parser parses the next text correctly."""
    good = b"[[1, 2]]".ljust(LONG)

    for _ in range(3):
        found = parse_number_rows(bad.ljust(LONG)), parse_number_rows(good)
        assert found[0] is None
        assert found[1] is not None


def test_numbers_that_do_not_fit_a_type_are_not_returned() -> None:
    """Too large, negative or fractional ones; numbers that fit are exact."""
    high = float(np.finfo(np.float32).max)
    sent = np.array([1.0, -0.0, 0.1])

    array = convert_exactly(sent, "FP32")

    assert array is not None
    assert array.tobytes() == sent.astype(np.float32).tobytes()
    assert convert_exactly(np.array([high * 1.01]), "FP32") is None
    assert convert_exactly(np.array([1.0]), "FP16") is None
    assert convert_exactly(np.array([256, 0]), "UINT8") is None
    assert convert_exactly(np.array([-1, 0]), "UINT8") is None
    assert convert_exactly(np.array([1.5]), "INT32") is None


def test_without_simdjson_the_result_is_none() -> None:
    """The reader returns None on versions of Python that simdjson does not support."""
    code = (
        "import sys; sys.modules['simdjson'] = None\n"
        "from service.codecs.json_reader import *\n"
        "text = b'[[1, 2]]'.ljust(999)\n"
        "found = parse_number_rows(text), parse_numbers_under(text, 'a')\n"
        "print(*found, parse_tensor_request(text))"
    )

    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert done.stdout.split() == ["None"] * 3
