"""Hostile tables are read in linear time and limited memory."""

import csv
import io
import math
import time
from collections.abc import Callable
from itertools import cycle

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.bundle.features import FeaturesInput
from service.codecs.csv_header import open_csv
from service.codecs.csv_rows import TableReader
from service.codecs.features import FeatureCodec
from service.codecs.ndjson import NdjsonReader
from service.errors import InvalidRequest
from service.records import Lines, Records
from tests.models import mixed_features, number

SIZES = (300, 3_000, 30_000)
# 30 KB may take this many times as long as 3 KB; quadratic time would take 100 times as long.
MOST_GROWTH = 30
NOISE_SECONDS = 0.05
LONGEST = 2**20
# The bytes of a piece from a slow or hostile client, and from a fast one.
PIECES = (997, 65_536)
MOST_ROWS = 4096

CODEC = FeatureCodec(FeaturesInput(kind="features", features=mixed_features()))
WIDE = FeatureCodec(
    FeaturesInput(kind="features", features=[number(f"column_{column}") for column in range(300)])
)
HEADER = b"size,rooms,garden,quarter,color\n"

Make = Callable[[int], bytes]


def repeated(unit: bytes) -> Make:
    """A table of this size that repeats a text below a valid header."""
    return lambda size: HEADER + (unit * (size // len(unit) + 1))[:size]


def headed(unit: bytes, end: bytes = b"\n1\n") -> Make:
    """A table with a header of this size."""
    return lambda size: (unit * (size // len(unit) + 1))[:size] + end


CSV: dict[str, Make] = {
    "quotes that open again in each line": repeated(b'a","b\n'),
    "a quote that is never closed": lambda size: HEADER + b'"' + b"1,2,3,4,5\n" * (size // 10),
    "escaped quotes": lambda size: HEADER + b'"' + b'""\n' * (size // 3),
    "a quote in each line": repeated(b'1,2,"x,4,5\n'),
    "broken quotes": repeated(b'"a"b,"c"d\n'),
    "quotes and good lines": repeated(b'a","b\n1,2,true,north,red\n'),
    "only quotes": repeated(b'"'),
    "only separators": repeated(b","),
    "alternating separators": repeated(b",;\t|"),
    "empty lines": repeated(b"\n"),
    "carriage returns": repeated(b"\r"),
    "mixed line ends": repeated(b"1\r\n2\r3\n\r"),
    "one endless line": repeated(b"x"),
    "short rows": repeated(b"1\n"),
    "words that are none": repeated(b"x,y,z,w,v\n"),
    "near misses": repeated(b"1,2,true,nort,red\n"),
    "many digits": lambda size: HEADER + b"1" * size + b"x,2,true,north,red\n",
    "digits and points": lambda size: HEADER + b"1." * (size // 2) + b",2,true,north,red\n",
    "zero bytes": repeated(b"\0"),
    "bytes that are not text": repeated(b"\xff\n"),
    "a header of digits": headed(b"1", b"x\n1\n"),
    "a header of many names": headed(b"siz1,"),
    "a header of one name again and again": headed(b"size,"),
    "a header of quotes": headed(b'"'),
    "a header of blank lines": headed(b"\n"),
    "a header of spaces": headed(b" "),
}

NDJSON: dict[str, Make] = {
    "one endless line": lambda size: b'{"size":"' + b"x" * size,
    "openings": lambda size: (b"[" * 900 + b"\n") * (size // 901 + 1),
    "levels": lambda size: (b'{"size":' + b"[" * 450 + b"]" * 450 + b"}\n") * (size // 910 + 1),
    "digits": lambda size: b'{"size":' + b"1" * size + b"}\n",
    "digits as text": lambda size: b'{"size":"' + b"1" * size + b'x","rooms":2}\n',
    "empty objects": lambda size: b"{}\n" * (size // 3),
    "empty lines": lambda size: b"\n" * size,
    "unknown names": lambda size: b'{"a":1,"b":2,"siz":3,"room":4}\n' * (size // 31),
    "many names": lambda size: b"{%s}\n" % b",".join(b'"a%d":1' % at for at in range(size // 9)),
    "bytes that are not text": lambda size: b"\xff\n" * (size // 2),
}


def csv_reader(sample: bytes, codec: FeatureCodec = CODEC) -> TableReader:
    """Open the reader of a table that begins with this sample."""
    return open_csv(sample, codec, whole=False, longest=LONGEST)[0]


def json_reader(sample: bytes) -> TableReader:
    """Create a reader of newline-delimited JSON that begins with this sample."""
    reader = NdjsonReader(CODEC, Lines("utf-8-sig", LONGEST))
    reader.feed(sample)
    return reader


def slowest_batch(reader: TableReader) -> tuple[float, int]:
    """Read the rows that have arrived; return the seconds of the slowest batch, and all rows."""
    slowest, rows = 0.0, 0
    while True:
        started = time.thread_time()
        batch = reader.take(MOST_ROWS)
        if batch is None:
            return slowest, rows
        slowest = max(slowest, time.thread_time() - started)
        rows += len(batch.line_numbers)


def seconds(open_reader: Callable[[bytes], TableReader], table: bytes, piece: int) -> float:
    """CPU time to read a table in pieces of this size."""
    started = time.thread_time()
    try:
        # The service waits for the complete first line.
        first = max(piece, table.find(b"\n") + 1 or len(table))
        reader = open_reader(table[:first])
        slowest_batch(reader)
        for at in range(first, len(table), piece):
            reader.feed(table[at : at + piece])
            slowest_batch(reader)
        reader.end()
        slowest_batch(reader)
    except InvalidRequest:
        pass
    return time.thread_time() - started


def grows_linearly(open_reader: Callable[[bytes], TableReader], make: Make, piece: int) -> bool:
    """Return whether each size takes a bounded multiple of the time of the size before."""
    before = math.inf
    for size in SIZES:
        table, allowed = make(size), MOST_GROWTH * before + NOISE_SECONDS
        # Measured twice, because a different process may disturb the first measurement.
        if (before := seconds(open_reader, table, piece)) > allowed:
            before = seconds(open_reader, table, piece)
        if before > allowed:
            return False
    return True


@pytest.mark.parametrize("piece", PIECES)
@pytest.mark.parametrize("case", CSV)
def test_any_csv_takes_linear_time(case: str, piece: int) -> None:
    """Ten times the bytes take about ten times the time, in pieces of any size."""
    assert grows_linearly(csv_reader, CSV[case], piece)


@pytest.mark.parametrize("piece", PIECES)
@pytest.mark.parametrize("case", NDJSON)
def test_any_lines_of_json_take_linear_time(case: str, piece: int) -> None:
    """Newline-delimited JSON ten times as long takes about ten times as long."""
    assert grows_linearly(json_reader, NDJSON[case], piece)


def test_a_record_that_arrives_byte_by_byte_takes_linear_time() -> None:
    """The first part of a record is not read again for each further byte."""

    def table(size: int) -> bytes:
        return HEADER + b'"' + b'"" line\n' * (size // 8)

    assert grows_linearly(csv_reader, table, 1)


@given(
    separator=st.sampled_from(",;\t|"),
    texts=st.lists(st.text(st.sampled_from('ab"",;\t|'), max_size=12), min_size=1, max_size=6),
)
def test_records_are_those_of_the_csv_module(separator: str, texts: list[str]) -> None:
    """A table that the csv module reads without an error has the same cells and lines."""
    table = "".join(f"{text}\n" for text in texts)
    lines = Lines("utf-8", LONGEST)
    lines.feed(table.encode())
    lines.end()
    reader = csv.reader(io.StringIO(table, newline=""), delimiter=separator, strict=True)
    try:
        expected = [cells for cells in reader if cells]
    except csv.Error:
        expected = None

    records = Records(lines, separator).take(100)

    if expected is None:
        assert any(record.error for record in records)
    else:
        assert [record.cells for record in records] == expected


def test_a_batch_with_invalid_rows_is_small() -> None:
    """Invalid rows take longer, but not the batch that they are in."""
    good = csv_reader(HEADER + b"1,2,true,north,red\n" * MOST_ROWS)
    wrong = csv_reader(HEADER + b"x,y,z,w,v\n" * MOST_ROWS)
    short = csv_reader(HEADER + b"1\n" * MOST_ROWS)
    objects = json_reader(b"{}\n" * MOST_ROWS)

    longest, rows = slowest_batch(good)

    assert rows == MOST_ROWS
    for reader in (wrong, short, objects):
        slowest, rows = slowest_batch(reader)
        assert rows == MOST_ROWS
        # In one batch they would take a hundred times as long as the valid ones.
        assert slowest < 20 * longest


def test_rows_have_their_line_numbers_and_order_where_batches_end_early() -> None:
    """Invalid rows, short rows, empty lines and records of several lines, in turn."""
    kinds = cycle([b"1,2,true,north,red", b"x", b"", b'"a\nb",2,true,north,red', b"1,x,true,n,r"])
    table = b"\n".join(next(kinds) for _ in range(2000))
    reader = csv_reader(HEADER + table)
    reader.end()
    lines: list[int] = []
    errors = 0

    while (batch := reader.take(MOST_ROWS)) is not None:
        lines += batch.line_numbers
        errors += len(batch.errors)

    # A group of five takes six lines, of which the third is empty.
    expected = [2 + 6 * group + at for group in range(400) for at in (0, 1, 3, 5)]
    assert lines == expected
    assert errors == 1200


def test_a_row_that_lacks_hundreds_of_features_has_a_short_error() -> None:
    """A row of two bytes does not cause a response with a hundred messages."""
    reader = NdjsonReader(WIDE, Lines("utf-8-sig", LONGEST))
    reader.feed(b"{}\n")

    batch = reader.take(1)

    assert batch is not None
    assert len(batch.errors[0].problems) == 10
    assert batch.errors[0].message.endswith("And 290 more problems.")
